"""Exercises of chapter 8, conversations. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch08_conversations/exercises.py                                  # all of them
    python chapters/ch08_conversations/exercises.py conversations.chatglm_prompt     # one

All of them need plain Python only, and neither a model nor a tokenizer: texts, lists, and numbers of tokens. Solutions
are in solutions.py. They help most when they are opened last.
"""


def chatglm_prompt(history: list[tuple[str, str]], question: str, first_round: int = 0) -> str:
    """Return ChatGLM's prompt: what was said before, then the question, up to where its answer begins.

    An earlier turn is three lines, "[Round 0]", "问：" with the question and "答：" with the answer, each with a line
    end. The new turn has them, too, its "[Round 1]" included, but stops right behind its "答：". Rounds count up from
    first_round. Nothing marks the end of an answer here.

    Args:
        history: (question, answer) of each earlier turn, the oldest first; with none, the new turn is all.
        question: the new one.
        first_round: the number of the oldest round.
    """
    raise NotImplementedError


def no_loss_spans(meta: int, turns: list[list[tuple[str, int]]], before: int, after: int) -> list[tuple[int, int]]:
    """Return where a sample in MOSS's form carries no loss: (begin, end) of each span, in order, the end not in it.

    A sample is the meta instruction and then all parts of all turns, one behind the other. No loss falls on the meta
    instruction, nor on what a tool answered: a "Tool Responses" part without its first `before` tokens and its last
    `after` ones. Places count from the sample's first token. A span without a token is
    left out.

    Args:
        meta: how many tokens the meta instruction has; it may be 0.
        turns: the parts of each turn in their order, as (key, tokens). The key is one of "Human", "Inner Thoughts",
            "Commands", "Tool Responses" and "MOSS"; a turn may lack some.
        before: tokens of the words `<|Results|>:`, 5 with GPT-2's vocabulary.
        after: tokens of `<eor>` and the line end, 2 where `<eor>` is one token.
    """
    raise NotImplementedError


def per_turn(turns: list[tuple[list[int], list[int]]]) -> list[tuple[list[int], list[bool]]]:
    """Return one sample for each turn, as (ids, trained), two new lists of the same length.

    The sample of a turn has the ids of all turns up to this one, questions and answers. `trained` is True for the ids
    of this turn's answer, and False for all others.

    Args:
        turns: the ids of the question and the ids of the answer, for each turn.
    """
    raise NotImplementedError


def tokens_processed(lengths: list[int]) -> tuple[int, int]:
    """Return how many tokens the samples of a conversation have in all: with one sample per turn, and as one sample.

    The sample of a turn has all turns up to it, as in `per_turn`.

    Args:
        lengths: the tokens of each turn, question and answer together. There is no padding and nothing is cut.
    """
    raise NotImplementedError


def turns_to_forget(lengths: list[int], system: int, room: int) -> int | None:
    """Return how many of the oldest turns must be forgotten, so that the system message and the other turns fit.

    No more than needed are forgotten, and whole turns only. The system message always stays, and so does the last
    turn, which is the new question. Return None where not even these two fit.

    Args:
        lengths: the tokens of each turn, the oldest first, the new question last; at least one.
        system: the tokens of the system message; it may be 0.
        room: the most tokens that may be read.
    """
    raise NotImplementedError


def mixture_shares(sizes: list[int], cap: int | None = None, temperature: float = 1.0) -> list[float]:
    """Return the share of each set in a mixture, in proportion to min(size, cap) ** (1 / temperature).

    The shares sum to 1.

    Args:
        sizes: the examples of each set, at least one each.
        cap: a set counts for at most so many; None is no cap.
        temperature: above 0.
    """
    raise NotImplementedError


def common_beginning(read: list[int], prompt: list[int]) -> int:
    """Return how many tokens of a KV cache can be kept when a new prompt comes: as many as both begin with,
    but never the whole prompt.

    Its last token must be read again, because the logits behind it are wanted, and the cache does
    not hold them.

    Args:
        read: the ids whose keys and values are in the cache; it may be empty.
        prompt: the ids of the new prompt, at least one.
    """
    raise NotImplementedError


EXERCISES = {
    "conversations.chatglm_prompt": chatglm_prompt,
    "conversations.no_loss_spans": no_loss_spans,
    "conversations.per_turn": per_turn,
    "conversations.tokens_processed": tokens_processed,
    "conversations.turns_to_forget": turns_to_forget,
    "conversations.mixture_shares": mixture_shares,
    "conversations.common_beginning": common_beginning,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
