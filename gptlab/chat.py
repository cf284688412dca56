"""The chat of the command line: reads a line, prints the answer as it comes, and knows a few commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptlab.decoding import ChatSession, Streamed

HELP = """/clear             forget everything that was said
/correct TEXT      put TEXT in the place of the last answer
/save FILE         write the conversation as JSON
/load FILE         go on with a conversation from a file
/settings          how answers are written
/settings NAME X   change one: temperature, top_k, top_p, min_p, repetition_penalty, no_repeat_ngram, seed,
                   max_new_tokens; X is a number, or none
/settings moss     those of MOSS's demo: temperature 0.7, top_k 40, top_p 0.8, repetition_penalty 1.02
/help              this list"""

MOSS_DEMO = {"temperature": 0.7, "top_k": 40, "top_p": 0.8, "repetition_penalty": 1.02}


def run_chat(
    session: ChatSession,
    *,
    remembers: bool = True,
    read: Callable[[str], str],
    tell: Callable[..., Any] = print,
) -> None:
    """Answer line by line until the input ends.

    Args:
        session: keeps the conversation.
        remembers: whether a line is answered with what was said before; else each is answered alone.
        read: returns the next line; raises EOFError at the end.
        tell: prints.
    """
    end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
    tell(f"Ctrl-C stops an answer, {end} ends, /help tells the commands.")
    if not remembers:
        tell("The model was tuned on single questions, so each line is answered alone; --history changes that.")
    elif (length := session.format.tuned_length) and session.max_context == session.model.cfg.context_length > length:
        tell(f"In tuning, mostly up to {length} tokens stood before an answer; --max-context {length} shows no more.")
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            tell()
            return
        except KeyboardInterrupt:  # perhaps meant for an answer that had just ended
            tell(f"\n({end} ends)")
            continue
        if not line:
            continue
        try:
            if line.startswith("/"):
                _obey(session, line, remembers, tell)
            else:
                if not remembers:
                    session.clear()
                _answer(session, line, tell)
        except (ValueError, OSError) as error:  # such as bytes that are no text; the conversation goes on
            tell(f"({error})")
        except KeyboardInterrupt:
            tell(" (stopped; this question is forgotten)")


def _answer(session: ChatSession, line: str, tell: Callable[..., Any]) -> None:
    """Print an answer as it is written, and what there is to say about it."""
    before, pieces, shown = session.forgotten, Streamed(session.ask(line)), False
    for piece in pieces:
        piece = piece if shown else piece.lstrip()
        shown = shown or bool(piece)
        tell(piece, end="", flush=True)
    reason = pieces.result.reason
    if reason == "prompt too long":
        tell(f"(prompt too long: the context holds {session.model.cfg.context_length} tokens)")
        return
    tell("" if shown else "(no answer)")
    if reason in ("length", "context"):
        tell(f"(cut off: {'max_new_tokens' if reason == 'length' else 'the context is full'})")
    if before == 0 < session.forgotten:
        tell("(no room for everything: from now on the oldest turns are forgotten)")


def _obey(session: ChatSession, line: str, remembers: bool, tell: Callable[..., Any]) -> None:
    """Do what a command says."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/help":
        tell(HELP)
    elif name == "/clear":
        session.clear()
        tell("(cleared)")
    elif name == "/correct":
        if not rest:
            raise ValueError("/correct needs the right answer")
        session.correct(rest)
        tell("(corrected)")
    elif name in ("/save", "/load"):
        if not rest:
            raise ValueError(f"{name} needs a file")
        if name == "/load" and not remembers:
            raise ValueError("each line is answered alone, so there is nothing to go on with; see --history")
        (session.save if name == "/save" else session.load)(Path(rest).expanduser())
        tell(f"({len(session.turns)} turns {'saved to' if name == '/save' else 'read from'} {rest})")
    elif name == "/settings":
        if rest:
            session.set(**(MOSS_DEMO if rest == "moss" else _change(rest)))
        tell("\n".join(f"{key:<20}{value}" for key, value in session.settings().items()))
    else:
        raise ValueError(f"no command is called {name}; /help tells them all")


def _change(text: str) -> dict[str, int | float | None]:
    """Return what "NAME X" changes; "NAME = X" and "NAME=X" are the same."""
    name, _, value = text.replace("=", " ").partition(" ")
    value = value.strip()
    try:
        number = None if value == "none" else int(value) if value.lstrip("-").isdigit() else float(value)
    except ValueError:
        raise ValueError(f"/settings {name} needs a number or none, got {value!r}") from None
    return {name.replace("-", "_"): number}
