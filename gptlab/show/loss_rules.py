"""One conversation under several loss rules: what each lets the model learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gptlab.data import LOSS_RULES, encode, find_format, render
from gptlab.show.targets import ShownToken, Targets
from gptlab.show.tokens import token_text
from gptlab.tokenizer import as_tokenizer


def show_loss_rules(
    conversation: Any, tokenizer: Any, formats: Sequence[Any] = ("moss",), rules: Sequence[str] = tuple(LOSS_RULES)
) -> Targets:
    """Return the conversation in colour, once for each format and rule, with how many tokens are trained on.

    Args:
        conversation: of any form that `as_conversation` knows.
        tokenizer: the model's; marks that it has no token for are shown as text.
        formats: see `find_format`.
        rules: see `render`.

    Raises:
        ValueError: see `render`.
    """
    tokenizer, rows, names = as_tokenizer(tokenizer), [], []
    for form in map(find_format, formats):
        for rule in rules:
            example = encode(render(conversation, form, loss_on=rule), tokenizer)
            trained = [False, *example.trained[1:]]  # nothing is read before the first token, so it is no target
            rows.append([ShownToken(token_text(tokenizer, i), learned, i) for i, learned in zip(example.ids, trained)])
            own = ", its own rule" if rule == form.loss_on else ""
            names.append(f"{form.title}, loss on {rule}{own}")
    return Targets(rows, [], names)
