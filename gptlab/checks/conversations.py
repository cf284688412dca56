"""Checks about conversations: how they are written out, what carries loss, and what is read, forgotten and mixed."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from gptlab.checks.core import check_of, close, expect, expect_returned
from gptlab.data.chat_formats import ChatGLM
from gptlab.data.conversation import Conversation, Turn
from gptlab.data.mixing import Mixture
from gptlab.data.segments import Example

Parts = list[tuple[str, int]]  # keys of MOSS's form, and how many tokens each part has


@check_of("conversations.chatglm_prompt", "a conversation as ChatGLM's prompt")
def chatglm_prompt(answer) -> None:
    history = [("Who mends boats?", "Ada."), ("Where?", "At the mill,\nby the river.")]
    given = list(history)
    got = answer(given, "Since when?")
    expect_returned(got)
    expect(isinstance(got, str), f"a prompt is text, got a {type(got).__name__}")
    expect(given == history, "the history that came in was changed: build a text of it and leave the list alone")
    expect(
        not re.search("[问答]:", got),
        "the colon is the narrow ':'; ChatGLM's is the wide '：', which is another character and other tokens",
    )
    expect(not re.search("[问答]： ", got), "a space follows the colon; in this form the text stands right behind it")
    expect("Since when?" in got, "the new question is missing: it is one round more than the history has")
    for text in (said for turn in history for said in turn):
        expect(text in got, f"{text!r} is missing: questions and answers of the history are all read again")
    behind = got.partition("Ada.")[2]
    expect(not behind.startswith("<"), f"a mark, {behind[:5]!r}..., stands behind an answer; here it has none")
    expect(behind.startswith("\n"), f"a line end is missing behind the answer 'Ada.', it goes on with {behind[:5]!r}")
    expect("\n\n" not in got, "there is an empty line; in this form each line follows the one before")
    expect("Since when?\n答：" in got, "behind the new question there should be '答：' in a line of its own")
    expect(got.endswith("答："), f"the prompt should stop behind the last '答：', got ...{got[-9:]!r}")
    for first in (0, 1):
        for turns in (history, [], history[:1], [(f"Why {number}?", "So.") for number in range(12)]):
            got = answer(list(turns), "How?", first) if first else answer(list(turns), "How?")
            _look_at_rounds(got, list(range(first, first + len(turns) + 1)))
            _look_at_lines(got, _written_by_library(turns, "How?", first))


def _look_at_rounds(got: str, right: list[int]) -> None:
    lines = re.findall(r"\[Round (.*)\]\n问：", got)
    expect(
        len(lines) == len(right),
        f"rounds with a line '[Round ...]' and '问：' in the next line: there should be {len(right)}, got {len(lines)}",
    )
    expect(all(line.isdecimal() for line in lines), f"what stands in '[Round ...]' should be numbers, got {lines}")
    rounds = [int(line) for line in lines]
    for moved in (1, -1):
        counted = [number + moved for number in right]
        expect(rounds != counted, f"the rounds count up from {counted[0]}; they should count up from {right[0]}")
    expect(
        rounds[:-1] != right[:-1] or rounds == right,
        f"the new question's round is the one after the last of the history, {right[-1]}, got {rounds[-1]}",
    )
    expect(rounds == right, f"the rounds should be {right}, got {rounds}")


def _look_at_lines(got: str, right: str) -> None:
    for number, (line, expected) in enumerate(zip(got.split("\n"), right.split("\n")), start=1):
        expect(line == expected, f"line {number} should be {expected!r}, got {line!r}")
    expect(got == right, f"there should be {right.count(chr(10)) + 1} lines, got {got.count(chr(10)) + 1}")


def _written_by_library(history: Sequence[tuple[str, str]], question: str, first_round: int) -> str:
    conversation = Conversation([*(Turn(*pair) for pair in history), Turn(question)])
    return "".join(part.text for part in ChatGLM(first_round, ends_in_history=False).prompt_segments(conversation))


_COUNTED_FROM = {
    "meta": "the tool's spans count from the first turn; in the sample the meta instruction comes before it",
    "turn": "the tool's spans count from the begin of their turn; a place counts from the sample's first token",
    "turn and meta": "from the second turn on places are too small: in the sample, all turns before come first",
    "part": "the tool's spans count from the begin of their part; a place counts from the sample's first token",
}


@check_of("conversations.no_loss_spans", "the spans without loss in MOSS's form")
def no_loss_spans(answer) -> None:
    first = [("Human", 9), ("Inner Thoughts", 6), ("Commands", 8), ("Tool Responses", 15), ("MOSS", 20)]
    second = [("Human", 7), ("Inner Thoughts", 6), ("Commands", 6), ("Tool Responses", 12), ("MOSS", 11)]
    empty = [("Human", 3), ("Inner Thoughts", 6), ("Commands", 6), ("Tool Responses", 7), ("MOSS", 4)]
    _look_at_spans(answer, 10, [first, second], 5, 2)
    _look_at_spans(answer, 10, [second, first, second], 3, 4)
    _look_at_spans(answer, 0, [second], 5, 2)
    _look_at_spans(answer, 4, [empty, first], 5, 2)
    _look_at_spans(answer, 6, [[("Human", 3), ("MOSS", 4)], second], 5, 2)
    _look_at_spans(answer, 6, [[*second[:4], *second[2:]]], 5, 2)  # two tools in a turn


def _look_at_spans(answer: Any, meta: int, turns: list[Parts], before: int, after: int) -> None:
    got = _as_list(answer(meta, copy.deepcopy(turns), before, after), "spans")
    pairs = all(isinstance(span, tuple | list) and len(span) == 2 for span in got)
    expect(pairs, f"each span should be two numbers, its begin and its end, got {got!r:.60}")
    got, right = [tuple(span) for span in got], _spans(meta, turns, before, after)
    expect(all(begin != end for begin, end in got), f"an empty span should be left out, got {got}")
    expect(
        not meta or any(begin == 0 for begin, _ in got),
        f"the {meta} tokens of the meta instruction, the first of the sample, are in no span, got {got}",
    )
    expect(got != [(begin, end - 1) for begin, end in right], "a span's last place is left out: its end is not in it")
    expect(
        got != [(begin, end - begin) for begin, end in right] or got == right,
        "a span is its begin and its end, not its begin and its length",
    )
    expect(len(right) == 1 or got != [(0, meta)], "what the tools answered is in no span")
    for since, hint in _COUNTED_FROM.items():
        expect(got != _spans(meta, turns, before, after, since) or got == right, hint)
    for wrong, hint in (
        ((0, 0), "the tool's words, `<eor>` and line end carry loss, too: only what stands between them is left out"),
        ((0, after), "the words `<|Results|>:` carry loss; the span begins behind them"),
        ((before, 0), "`<eor>` and the line end carry loss; the span ends in front of them"),
        ((after, before), "`before` and `after` are the wrong way round"),
        ((5, 2), f"with another tokenizer {before} and {after} tokens stand around the answer, not 5 and 2"),
    ):
        expect(got != _spans(meta, turns, *wrong) or got == right, hint)
    _expect_no_other_part(got, meta, turns)
    expect(sorted(got) != right or got == right, "the spans should come in the order of their places")
    parts = ", ".join(str(tokens) for turn in turns for _, tokens in turn)
    case = f"with {meta} tokens of meta instruction and parts of {parts} tokens"
    for begin, end in right:
        expect((begin, end) in got, f"{case}, places {begin} to {end - 1} should be a span, got {got}")
    expect(got == right, f"{case}, there should be {len(right)} spans, got {got}")


def _expect_no_other_part(got: list[tuple[int, int]], meta: int, turns: list[Parts]) -> None:
    begin = meta
    for key, tokens in (part for turn in turns for part in turn):
        end = begin + tokens
        for span in got:
            expect(
                key == "Tool Responses" or span[1] <= begin or span[0] >= end,
                f"the span {span} reaches into the part {key!r}, places {begin} to {end - 1}, which carries loss",
            )
        begin = end


def _spans(meta: int, turns: list[Parts], before: int, after: int, since: str = "sample") -> list[tuple[int, int]]:
    """Return the spans, with places that count from the sample's begin, or wrongly from somewhere else."""
    spans, begin = [(0, meta)], meta
    for turn in turns:
        zero = {"sample": 0, "meta": meta, "turn": begin, "turn and meta": begin - meta}
        for key, tokens in turn:
            place = begin - zero.get(since, begin)
            if key == "Tool Responses":
                spans.append((place + before, place + tokens - after))
            begin += tokens
    return [(begin, end) for begin, end in spans if begin < end]


@check_of("conversations.per_turn", "a sample for each turn")
def per_turn(answer) -> None:
    turns = [([1, 2], [3, 4, 5]), ([6], [7, 8]), ([9, 10], [11])]
    given = copy.deepcopy(turns)
    got = _as_list(answer(given), "samples")
    expect(given == turns, "the turns that came in were changed: `+=`, append and extend change the list itself")
    expect(len(got) == 3, f"3 turns make 3 samples, got {len(got)}")
    for sample in got:
        pair = isinstance(sample, tuple | list) and len(sample) == 2
        lists = pair and all(isinstance(each, list | tuple) for each in sample)
        expect(lists, f"each sample should be two lists, the ids and `trained`, got {sample!r:.60}")
    for what, lists in (("ids", [ids for ids, _ in got]), ("trained", [trained for _, trained in got])):
        shared = len({id(each) for each in lists}) < 3
        expect(not shared, f"the samples share one list of {what}, so a later turn is in the earlier samples, too")
    for number, (ids, trained) in enumerate(got, start=1):
        _look_at_sample(list(ids), list(trained), turns, number)
    both = answer([([1], [2]), ([1], [2])])
    expect(
        [list(trained) for _, trained in both] == [[False, True], [False, False, False, True]],
        "an id that comes again in another turn gets the wrong flag: go by places, not by the ids themselves",
    )


def _look_at_sample(ids: list[int], trained: list[bool], turns: list[tuple[list[int], list[int]]], number: int) -> None:
    question, answer = turns[number - 1]
    which, later = f"sample {number}", number > 1
    right = [token for turn in turns[:number] for part in turn for token in part]
    expect(not later or ids != question + answer, f"{which} has only its own turn; the turns before are read, too")
    expect(ids != right[: -len(answer)], f"{which} lacks its answer, which is what it teaches")
    expect(len(ids) <= len(right), f"{which} goes on behind its own answer: {ids}")
    expect(ids == right, f"{which} should have the ids {right}, got {ids}")
    expect(len(trained) == len(ids), f"{which} has {len(ids)} ids and {len(trained)} flags; each id has one")
    expect(all(isinstance(flag, bool) for flag in trained), f"`trained` is True or False for each id, got {trained}")
    own = len(ids) - len(answer)
    flags = [place >= own for place in range(len(ids))]
    answers = [part is turn[1] for turn in turns[:number] for part in turn for _ in part]
    expect(any(trained), f"nothing is True in {which}, so it teaches nothing")
    for wrong, hint in (
        ([not flag for flag in flags], f"in {which} the flags are the wrong way round: True is what is learned"),
        (answers, f"in {which} answers of earlier turns are True, too, but each is learned in its own sample"),
        ([*flags[1:], False], "the flags are moved by one: they belong to the answer's own ids; collate shifts later"),
    ):
        expect(trained != wrong or trained == flags, hint)
    expect(not trained[own - 1], f"in {which} the question is True, too; it is read, not learned")
    expect(trained == flags, f"in {which} the last {len(answer)} flags, its answer's, should be True, got {trained}")


@check_of("conversations.tokens_processed", "tokens per turn and per session")
def tokens_processed(answer) -> None:
    for lengths in ([3, 5, 2], [7], [4, 4, 4, 4, 1], [10] * 20):
        got = answer(list(lengths))
        expect_returned(got)
        pair = isinstance(got, tuple | list) and len(got) == 2
        expect(pair, f"two numbers were asked for, per turn and per session, got {got!r:.60}")
        total, count = sum(lengths), len(lengths)
        right = (sum(accumulate(lengths)), total)
        case, each, whole = f"turns of {lengths}", *got
        expect(tuple(got) != right[::-1] or count == 1, "the two are the wrong way round: samples of turns come first")
        expect(whole != lengths[-1] or count == 1, "one sample for the session has all turns, not the last one only")
        expect(whole == total, f"as one sample, {case} are read once, {total} tokens, got {whole}")
        for wrong, hint in (
            (total, "per turn the turns before are read again: they carry no loss, but the model must see them"),
            (count * total, "the sample of a turn ends with it: it does not have the turns that come later"),
            (right[0] - total, "the sample of a turn has this turn, too, not only those before"),
            (sum(accumulate(lengths[::-1])), "the first turn is in every sample, and the last one in one only"),
        ):
            expect(each != wrong or each == right[0], hint)
        expect(each == right[0], f"one sample per turn of {case} is {right[0]} tokens, got {each}")


@check_of("conversations.turns_to_forget", "how many of the oldest turns to forget")
def turns_to_forget(answer) -> None:
    lengths = [10, 20, 30, 5]
    got = answer(list(lengths), 4, 69)
    expect(got is not None, "where everything fits it returns None, not 0; or is a `return` missing?")
    expect(isinstance(got, int), f"a number of turns was asked for, got {got!r:.60}")
    expect(got != 4, "where everything fits it returns 4, as many as are kept; how many are forgotten was asked for")
    expect(got != 1, "a turn is forgotten without need: what fills the room to the last token fits, too")
    _look_at_forgotten(got, lengths, 4, 69, 0)
    given = list(lengths)
    got = answer(given, 4, 66)
    expect(given == lengths, "the lengths that came in were changed: work on a copy")
    expect(got != 0, "the system message's tokens are not counted: 4 + 65 do not fit into a room of 66")
    expect(got != 10, "10 is how many tokens are forgotten; the number of turns was asked for")
    expect(got != 3, "3 of 4 turns fit, and 1 must be forgotten; the number of those forgotten was asked for")
    _look_at_forgotten(got, lengths, 4, 66, 1)
    got = answer(list(lengths), 4, 59)
    expect(got != 2, "it forgets the newest turns, and so the question; the oldest go first")
    _look_at_forgotten(got, lengths, 4, 59, 1)
    for few, system, room in ((lengths, 4, 39), ([10, 50, 5], 0, 20)):
        got = answer(list(few), system, room)
        expect(
            got != 1, "a later turn is forgotten and an older one kept; what is forgotten are the oldest, in one row"
        )
        _look_at_forgotten(got, few, system, room, 2)
    for few, system, room, right in ((lengths, 4, 58, 2), (lengths, 4, 38, 3), (lengths, 4, 9, 3), ([5], 0, 5, 0)):
        _look_at_forgotten(answer(list(few), system, room), few, system, room, right)
    for few, system, room in ((lengths, 4, 8), ([5], 0, 4), ([1, 1, 9], 3, 11), ([5], 9, 6)):
        _expect_none(answer, few, system, room)


def _expect_none(answer: Any, lengths: list[int], system: int, room: int) -> None:
    case = f"a question of {lengths[-1]} and a system message of {system} do not fit into a room of {room}"
    try:
        got = answer(list(lengths), system, room)
    except (ValueError, IndexError) as error:
        expect(False, f"{case}: there None was asked for, but it raises {type(error).__name__}")
    expect(
        got != len(lengths), f"{case}: it forgets the question, too, and nothing is left to answer; None was asked for"
    )
    expect(got is None, f"{case}: there None was asked for, got {got}")


def _look_at_forgotten(got: Any, lengths: list[int], system: int, room: int, right: int) -> None:
    case = f"for turns of {lengths}, a system message of {system} and a room of {room}"
    expect(got is not None, f"{case} it returns None, but the system message and the question fit")
    expect(got == right, f"{case}, {right} should be forgotten, got {got}")


# Of 900 and 100 with temperature 2, and of 900, 100 and 300 with a cap of 200: what mistakes give.
_WRONG_TEMPERATURE = (
    ([0.9, 0.1], "the temperature changes nothing"),
    ([81 / 82, 1 / 82], "temperature 2 makes the large set's share larger: look at the exponent again"),
    ([1.0, 0.0], "the size is the base of the power, not the exponent: a softmax of sizes is something else"),
    ([0.5, 0.5], "with temperature 2 all shares are equal: is 1 / temperature cut to a whole number?"),
    ([0.9**0.5, 0.1**0.5], "with temperature 2 the shares do not sum to 1: divide by the sum after the power"),
    ([30, 10], "with temperature 2 these are powers, not shares: divide by their sum"),
)
_WRONG_CAP = (
    ([9 / 13, 1 / 13, 3 / 13], "the cap changes nothing: it caps sizes, so it comes before they become shares"),
    ([9 / 14, 2 / 14, 3 / 14], "the cap makes small sets larger; it is the most that a set counts for"),
    ([0.0, 1.0, 0.0], "a set above the cap is left out; it should count for as many as the cap says"),
    ([2 / 13, 1 / 13, 2 / 13], "with a cap the shares do not sum to 1: the sum is that of the sizes before capping"),
)


@check_of("conversations.mixture_shares", "shares of a mixture, with cap and temperature")
def mixture_shares(answer) -> None:
    given = [900, 100]
    got = _as_shares(answer(given), 2)
    expect(given == [900, 100], "the sizes that came in were changed: make a new list")
    expect(not close(got, [900, 100]), "these are sizes, not shares: shares sum to 1")
    expect(not close(got, [0.5, 0.5]), "all sets have the same share; without cap and temperature the size decides")
    expect(close(got, [0.9, 0.1]), f"sets of 900 and 100 have the shares 0.9 and 0.1, got {got}")
    got = _as_shares(answer([900, 100], None, 2.0), 2)
    for wrong, hint in _WRONG_TEMPERATURE:
        expect(not close(got, wrong), hint)
    expect(close(got, [0.75, 0.25]), f"900 and 100 with temperature 2 stand as 30 to 10, got {got}")
    given = [900, 100, 300]
    got = _as_shares(answer(given, 200), 3)
    expect(given == [900, 100, 300], "the sizes that came in were capped in place: make a new list")
    for wrong, hint in _WRONG_CAP:
        expect(not close(got, wrong), hint)
    expect(close(got, [0.4, 0.2, 0.4]), f"with a cap of 200, 900, 100 and 300 stand as 200, 100 and 200, got {got}")
    got = _as_shares(answer([900, 100, 300], 200, 2.0), 3)
    powers = [30, 10, 300**0.5]
    expect(
        not close(got, [power / sum(powers) for power in powers]),
        "with a temperature the cap has no effect: it caps the sizes, before the power makes them small",
    )
    for sizes, cap, temperature in (
        ([900, 100, 300], 200, 2.0),
        ([5, 80, 40], None, 0.5),
        ([7], 3, 4.0),
        ([2, 9], 50, math.inf),
    ):
        got = _as_shares(answer(list(sizes), cap, temperature), len(sizes))
        right = _shares_of_library(sizes, cap, temperature)
        shown = ", ".join(f"{share:.3f}" for share in right)
        expect(close(got, right), f"{sizes} with cap {cap} and temperature {temperature:g} make {shown}, got {got}")


def _as_shares(got: Any, count: int) -> list[float]:
    shares = _as_list(got, "shares")
    expect(all(isinstance(share, int | float) for share in shares), f"shares should be numbers, got {shares}")
    expect(len(shares) == count, f"each set has a share: there should be {count}, got {shares}")
    return shares


def _shares_of_library(sizes: list[int], cap: int | None, temperature: float) -> list[float]:
    sets = {str(number): [Example([0], [True])] * size for number, size in enumerate(sizes)}
    return list(Mixture(sets, cap=cap, temperature=temperature).shares.values())


@check_of("conversations.common_beginning", "how much of a cache can be kept")
def common_beginning(answer) -> None:
    read, prompt = [1, 2, 3, 4, 5], [1, 2, 9, 4, 5, 7]
    got = _kept(answer, read, prompt)
    expect(
        got != 4, "equal tokens behind the first difference count, too; their keys were made with other tokens before"
    )
    expect(got != 3, "the first token that differs is counted, too")
    expect(got != 1, "one token too few is kept: where the prompt goes on, all tokens that are equal can stay")
    expect(got == 2, f"{read} and {prompt} begin with 2 equal tokens, got {got}")
    for same in ([1, 2, 3], [8]):
        got = _kept(answer, same, same)
        expect(got != len(same), "the whole prompt is kept, so nothing is read and there are no logits to choose from")
        expect(got == len(same) - 1, f"when {same} comes again, all but its last token can be kept, got {got}")
    got = _kept(answer, [1, 2, 3, 4], [1, 2])
    expect(got != 2, "where the cache holds the whole prompt and more, the prompt's last token must be read again, too")
    expect(got == 1, f"of the prompt [1, 2] only the first token can be kept, whatever the cache holds, got {got}")
    got = _kept(answer, [1, 2, 3], [1, 2, 3, 4, 5])
    expect(got != 2, "the prompt's last token must be read again, not the cache's: this cache can be kept whole")
    expect(got == 3, f"the prompt [1, 2, 3, 4, 5] goes on where the cache [1, 2, 3] ends: 3 are kept, got {got}")
    for read, prompt in (([], [1, 2]), ([5, 2, 3], [1, 2, 3]), ([4], [7])):
        got = _kept(answer, read, prompt)
        expect(got == 0, f"{read} and {prompt} have no beginning in common, so 0 are kept, got {got}")
    got = _kept(answer, [3, 3, 3, 5], [3, 3, 3, 3, 3])
    expect(got == 3, f"[3, 3, 3, 5] and [3, 3, 3, 3, 3] begin with 3 equal tokens, got {got}")


def _kept(answer: Any, read: list[int], prompt: list[int]) -> int:
    given = (list(read), list(prompt))
    try:
        got = answer(*given)
    except IndexError:
        expect(False, f"for the cache {read} and the prompt {prompt} a loop runs behind the end of one: IndexError")
    expect(given == (read, prompt), "the lists that came in were changed: count, without taking anything away")
    expect(got is not None, f"for the cache {read} and the prompt {prompt} it returns None: a way has no `return`")
    expect(isinstance(got, int), f"a number of tokens was asked for, got {got!r:.60}")
    expect(got >= 0, f"for the cache {read} and the prompt {prompt} it returns {got}; at the least 0 are kept")
    return got


def _as_list(got: Any, what: str) -> list[Any]:
    expect_returned(got)
    expect(isinstance(got, list | tuple), f"a list of {what} was asked for, got a {type(got).__name__}")
    return list(got)
