"""Usual mistakes in chapter 8: the check, the wrong answer, and words of the hint that it must get."""

import math
from itertools import accumulate

import torch


def chatglm(*, shift=0, colon="：", behind="\n", question_behind="", last=0, uses_first=True, mark="", between=""):
    """Return the right chatglm_prompt, but for what is asked to be wrong."""

    def chatglm_prompt(history, question, first_round=0):
        first = (first_round if uses_first else 0) + shift
        rounds = [
            f"[Round {number}]\n问{colon}{asked}\n答{colon}{said}{mark}{behind}{between}"
            for number, (asked, said) in enumerate(history, start=first)
        ]
        return (
            "".join(rounds) + f"[Round {first + len(history) + last}]\n问{colon}{question}\n答{colon}{question_behind}"
        )

    return chatglm_prompt


def bare_question_at_first(history, question, first_round=0):
    return chatglm()(history, question, first_round) if history else question


def without_a_line_for_the_question(history, question, first_round=0):
    return chatglm()(history, question, first_round).replace("\n问", "问")


def history_only(history, question, first_round=0):
    return "".join(f"[Round {number}]\n问：{q}\n答：{a}\n" for number, (q, a) in enumerate(history, start=first_round))


def appends_to_history(history, question, first_round=0):
    history.append((question, ""))
    return history_only(history, question, first_round).removesuffix("\n")


def stops_before_answer(history, question, first_round=0):
    return chatglm()(history, question, first_round).removesuffix("\n答：")


def strips_lines(history, question, first_round=0):
    return chatglm()([(q, a.replace("\n", " ")) for q, a in history], question, first_round)


def one_round_number(history, question, first_round=0):
    said = "".join(f"[Round {first_round}]\n问：{q}\n答：{a}\n" for q, a in history)
    return f"{said}[Round {first_round}]\n问：{question}\n答："


def spans(*, zero="sample", meta_span=True, end=0, fixed=None, keys=("Tool Responses",), empty=False, as_length=False):
    """Return the right no_loss_spans, but for what is asked to be wrong."""

    def no_loss_spans(meta, turns, before, after):
        if fixed == "swapped":
            before, after = after, before
        elif fixed:
            before, after = (given if wrong is None else wrong for wrong, given in zip(fixed, (before, after)))
        found, place = [(0, meta)] if meta_span else [], meta
        for turn in turns:
            turn_begin = place
            for key, tokens in turn:
                first = (
                    place
                    - {"sample": 0, "meta": meta, "turn": turn_begin, "turn behind": turn_begin - meta, "part": place}[
                        zero
                    ]
                )
                if key in keys:
                    found.append((first + before, first + tokens - after))
                place += tokens
        found = [(b, e + end) for b, e in found if empty or b < e]
        return [(b, e - b) for b, e in found] if as_length else found

    return no_loss_spans


def tools_first(meta, turns, before, after):
    (*found,) = spans()(meta, turns, before, after)
    return found[1:] + found[:1]


def as_flags(meta, turns, before, after):
    return [False] * meta + [True] * sum(tokens for turn in turns for _, tokens in turn)


def samples(*, read="all", flags="answer"):
    """Return the right per_turn, but for what is asked to be wrong."""

    def per_turn(turns):
        made = []
        for number, (question, answer) in enumerate(turns, start=1):
            seen = {"all": turns[:number], "own": turns[number - 1 : number], "session": turns}[read]
            ids = [token for turn in seen for part in turn for token in part]
            before = len(ids) - len(answer)
            trained = {
                "answer": [place >= before for place in range(len(ids))],
                "answers": [flag for turn in seen for part, flag in zip(turn, (False, True)) for _ in part],
                "turn": [place >= before - len(question) for place in range(len(ids))],
                "all": [True] * len(ids),
                "none": [False] * len(ids),
                "ignored": [place < before for place in range(len(ids))],
                "shifted": [before - 1 <= place < len(ids) - 1 for place in range(len(ids))],
                "labels": [token if place >= before else -100 for place, token in enumerate(ids)],
                "found": [token in answer for token in ids],
                "of the answer only": [True] * len(answer),
            }[flags]
            made.append((ids, trained))
        return made

    return per_turn


def one_list_for_all(turns):
    ids, trained, made = [], [], []
    for question, answer in turns:
        ids += question + answer
        trained[:] = [False] * len(trained) + [False] * len(question) + [True] * len(answer)
        made.append((ids, trained))
    return made


def grows_the_first_question(turns):
    ids, made = turns[0][0], []
    for number, (question, answer) in enumerate(turns):
        ids += answer if number == 0 else question + answer
        made.append((list(ids), [False] * (len(ids) - len(answer)) + [True] * len(answer)))
    return made


def prompts_only(turns):
    return [(ids[: -len(answer)], trained) for (ids, trained), (_, answer) in zip(samples()(turns), turns)]


def forgets(fits=lambda total, room: total <= room, *, count_system=True, drop=0, last=1, otherwise=None):
    """Return the right answer, but for what is asked to be wrong; `drop` is the place of the turn that goes."""

    def turns_to_forget(lengths, system, room):
        left = list(lengths)
        while not fits(sum(left) + system * count_system, room):
            if len(left) <= last:
                return otherwise(lengths) if callable(otherwise) else otherwise
            left.pop(drop if len(left) + drop >= 0 else 0)
        return len(lengths) - len(left)

    return turns_to_forget


def keep_in_place(lengths, system, room):
    forgotten = 0
    while len(lengths) > 1 and system + sum(lengths) > room:
        lengths.pop(0)
        forgotten += 1
    return forgotten


def number_kept(lengths, system, room):
    forgotten = forgets()(lengths, system, room)
    return None if forgotten is None else len(lengths) - forgotten


def tokens_forgotten(lengths, system, room):
    forgotten = forgets()(lengths, system, room)
    return None if forgotten is None else sum(lengths[:forgotten])


def longest_first(lengths, system, room):
    left = list(lengths)
    while system + sum(left) > room:
        if len(left) == 1:
            return None
        left.remove(max(left[:-1]))
    return len(lengths) - len(left)


def skips_what_is_too_long(lengths, system, room):
    kept, used = 0, system
    for length in reversed(lengths):
        if used + length <= room:
            kept, used = kept + 1, used + length
    return len(lengths) - kept


def raises(lengths):
    raise ValueError("the question is too long")


def never_none(lengths, system, room):
    forgotten = 0
    while system + sum(lengths[forgotten:]) > room and forgotten < len(lengths) - 1:
        forgotten += 1
    return forgotten


def runs_out(lengths, system, room):
    left, forgotten = list(lengths), 0
    while system + sum(left) > room:
        left.pop(0)
        forgotten += 1
    return forgotten


def zero_or_none(lengths, system, room):
    return forgets()(lengths, system, room) or None


def normalised(rates):
    return [rate / sum(rates) for rate in rates]


def shares(*, power=lambda T: 1 / T, capped=min, cap_last=False):
    """Return the right mixture_shares, but for what is asked to be wrong."""

    def mixture_shares(sizes, cap=None, temperature=1.0):
        cap = math.inf if cap is None else cap
        if cap_last:
            return normalised([min(size ** power(temperature), cap) for size in sizes])
        return normalised([(size if cap == math.inf else capped(size, cap)) ** power(temperature) for size in sizes])

    return mixture_shares


def cap_after_normalising(sizes, cap=None, temperature=1.0):
    rates = shares()(sizes, None, temperature)
    return [rate if cap is None else min(rate, cap) for rate in rates]


def powers(sizes, cap=None, temperature=1.0):
    return [size ** (1 / temperature) for size in sizes]


def power_of_shares(sizes, cap=None, temperature=1.0):
    return [share ** (1 / temperature) for share in normalised(sizes)]


def softmax_of_sizes(sizes, cap=None, temperature=1.0):
    if temperature == 1:
        return normalised(sizes)
    return (torch.tensor(sizes, dtype=torch.float64) / temperature).softmax(0).tolist()


def sum_before_capping(sizes, cap=None, temperature=1.0):
    rates = [(size if cap is None else min(size, cap)) ** (1 / temperature) for size in sizes]
    whole = [size ** (1 / temperature) for size in sizes]
    return [rate / sum(whole) for rate in rates]


def caps_in_place(sizes, cap=None, temperature=1.0):
    for number, size in enumerate(sizes):
        sizes[number] = size if cap is None else min(size, cap)
    return shares()(sizes, None, temperature)


def leaves_out_large_sets(sizes, cap=None, temperature=1.0):
    return normalised([size ** (1 / temperature) if cap is None or size <= cap else 0 for size in sizes])


def whole_beginning(read, prompt):
    kept = 0
    for old, new in zip(read, prompt):
        if old != new:
            break
        kept += 1
    return kept


def no_return_at_the_end(read, prompt):
    for place, (old, new) in enumerate(zip(read, prompt)):
        if old != new:
            return place


def loop_without_end_of_list(read, prompt):
    kept = 0
    while read[kept] == prompt[kept]:
        kept += 1
    return min(kept, len(prompt) - 1)


def only_when_equal(read, prompt):
    return len(prompt) - 1 if read == prompt else whole_beginning(read, prompt)


def last_of_both(read, prompt):
    return whole_beginning(read[:-1], prompt[:-1])


def pops(read, prompt):
    prompt.pop()
    return whole_beginning(read, prompt)


def prompt_checks(name="conversations.chatglm_prompt"):
    return [
        (name, chatglm(shift=1), "count up from 1; they should count up from 0"),
        (name, chatglm(uses_first=False), "count up from 0; they should count up from 1"),
        (name, chatglm(last=1), "the one after the last of the history"),
        (name, one_round_number, "the rounds should be [0, 1, 2]"),
        (name, chatglm(behind=""), "a line end is missing behind the answer"),
        (name, chatglm(behind=" "), "a line end is missing behind the answer"),
        (name, chatglm(mark="<eop>"), "a mark, '<eop>'..., stands behind an answer"),
        (name, chatglm(mark="<|endoftext|>"), "a mark, '<|end'..."),
        (name, chatglm(between="\n"), "an empty line"),
        (name, chatglm(colon=":"), "the colon is the narrow"),
        (name, chatglm(colon="： "), "a space follows the colon"),
        (name, chatglm(question_behind="\n"), "should stop behind the last"),
        (name, chatglm(question_behind="None\n"), "should stop behind the last"),
        (name, stops_before_answer, "in a line of its own"),
        (name, history_only, "the new question is missing"),
        (name, appends_to_history, "leave the list alone"),
        (name, strips_lines, "is missing: questions and answers"),
        (name, lambda history, question, first_round=0: chatglm()([], question, first_round), "'Who mends boats?' is"),
        (name, without_a_line_for_the_question, "there should be 3, got 0"),
        (name, bare_question_at_first, "there should be 1, got 0"),
        (name, lambda history, question, first_round=0: print(end=""), "`return`"),
        (name, lambda history, question, first_round=0: [*history, question], "a prompt is text"),
    ]


def span_checks(name="conversations.no_loss_spans"):
    return [
        (name, spans(zero="meta"), "count from the first turn"),
        (name, spans(zero="turn"), "from the begin of their turn"),
        (name, spans(zero="turn behind"), "from the second turn on"),
        (name, spans(zero="part"), "from the begin of their part"),
        (name, spans(end=-1), "its end is not in it"),
        (name, spans(as_length=True), "not its begin and its length"),
        (name, spans(meta_span=False), "tokens of the meta instruction"),
        (name, spans(keys=()), "what the tools answered is in no span"),
        (name, spans(fixed=(0, 0)), "only what stands between"),
        (name, spans(fixed=(0, None)), "the span begins behind them"),
        (name, spans(fixed=(None, 0)), "the span ends in front of them"),
        (name, spans(fixed=(5, 2)), "not 5 and 2"),
        (name, spans(fixed="swapped"), "the wrong way round"),
        (name, spans(empty=True), "an empty span"),
        (name, spans(keys=("Human", "Tool Responses"), fixed=(0, 0)), "reaches into the part 'Human'"),
        (name, spans(keys=("MOSS",)), "reaches into the part 'MOSS'"),
        (name, lambda *given: spans()(*given)[:2], "should be a span"),
        (name, tools_first, "in the order of their places"),
        (name, as_flags, "each span should be two numbers"),
        (name, lambda meta, turns, before, after: meta, "a list of spans"),
    ]


def sample_checks(name="conversations.per_turn"):
    return [
        (name, samples(flags="answers"), "answers of earlier turns are True"),
        (name, samples(flags="turn"), "the question is True, too"),
        (name, samples(flags="all"), "the question is True, too"),
        (name, samples(flags="none"), "nothing is True"),
        (name, samples(flags="ignored"), "the wrong way round"),
        (name, samples(flags="shifted"), "moved by one"),
        (name, samples(flags="labels"), "True or False"),
        (name, samples(flags="found"), "go by places"),
        (name, samples(flags="of the answer only"), "each id has one"),
        (name, samples(read="own"), "has only its own turn"),
        (name, samples(read="session"), "goes on behind its own answer"),
        (name, prompts_only, "lacks its answer"),
        (name, one_list_for_all, "share one list of ids"),
        (name, grows_the_first_question, "change the list itself"),
        (name, lambda turns: samples()(turns)[-1:], "3 turns make 3 samples, got 1"),
        (name, lambda turns: [ids for ids, _ in samples()(turns)], "each sample should be two lists"),
    ]


def token_checks(name="conversations.tokens_processed"):
    return [
        (name, lambda lengths: (len(lengths) * sum(lengths), sum(lengths)), "the turns that come later"),
        (name, lambda lengths: (sum(lengths), sum(lengths)), "read again"),
        (name, lambda lengths: (sum(lengths), sum(accumulate(lengths))), "the two are the wrong way round"),
        (name, lambda lengths: (sum(accumulate(lengths)) - sum(lengths), sum(lengths)), "has this turn, too"),
        (name, lambda lengths: (sum(accumulate(lengths[::-1])), sum(lengths)), "the first turn is in every sample"),
        (name, lambda lengths: (sum(accumulate(lengths)), lengths[-1]), "not the last one only"),
        (name, lambda lengths: (list(accumulate(lengths)), sum(lengths)), "one sample per turn of"),
        (name, lambda lengths: sum(accumulate(lengths)), "two numbers were asked for"),
    ]


def turn_checks(name="conversations.turns_to_forget"):
    return [
        (name, forgets(drop=-1), "the newest turns"),
        (name, forgets(drop=-2), "an older one kept"),
        (name, longest_first, "an older one kept"),
        (name, skips_what_is_too_long, "an older one kept"),
        (name, number_kept, "as many as are kept"),
        (name, tokens_forgotten, "how many tokens are forgotten"),
        (name, forgets(lambda total, room: total < room), "without need"),
        (name, forgets(count_system=False), "the system message's tokens"),
        (name, keep_in_place, "work on a copy"),
        (name, forgets(last=0, otherwise=len), "forgets the question, too"),
        (name, forgets(otherwise=raises), "it raises ValueError"),
        (name, forgets(otherwise=-1), "None was asked for, got -1"),
        (name, never_none, "None was asked for, got 3"),
        (name, runs_out, "forgets the question, too"),
        (name, zero_or_none, "it returns None, not 0"),
        (name, lambda lengths, system, room: lengths, "a number of turns"),
    ]


def share_checks(name="conversations.mixture_shares"):
    return [
        (name, shares(power=lambda T: T), "look at the exponent again"),
        (name, shares(power=lambda T: 1), "the temperature changes nothing"),
        (name, shares(power=lambda T: 1 // T), "cut to a whole number"),
        (name, shares(capped=max), "the most that a set counts for"),
        (name, shares(capped=lambda size, cap: size), "the cap changes nothing"),
        (name, shares(cap_last=True), "with a temperature the cap has no effect"),
        (name, cap_after_normalising, "before they become shares"),
        (name, powers, "sizes, not shares"),
        (
            name,
            lambda sizes, *rest: powers(sizes, *rest) if rest else normalised(sizes),
            "these are powers, not shares",
        ),
        (name, power_of_shares, "divide by the sum after the power"),
        (name, softmax_of_sizes, "the base of the power"),
        (name, sum_before_capping, "the sum is that of the sizes before capping"),
        (name, caps_in_place, "capped in place"),
        (name, leaves_out_large_sets, "is left out"),
        (name, lambda sizes, *rest: [1 / len(sizes)] * len(sizes), "all sets have the same share"),
        (name, lambda sizes, *rest: sum(sizes), "a list of shares"),
        (name, lambda sizes, *rest: dict(enumerate(sizes)), "a list of shares"),
        (name, lambda sizes, *rest: [str(size) for size in sizes], "shares should be numbers"),
    ]


def cache_checks(name="conversations.common_beginning"):
    return [
        (name, lambda read, prompt: sum(a == b for a, b in zip(read, prompt)), "behind the first difference"),
        (name, lambda read, prompt: len(set(read) & set(prompt)), "behind the first difference"),
        (name, whole_beginning, "the whole prompt is kept"),
        (name, only_when_equal, "the cache holds the whole prompt and more"),
        (name, lambda read, prompt: max(0, whole_beginning(read, prompt) - 1), "one token too few"),
        (name, lambda read, prompt: whole_beginning(read, prompt) + 1, "that differs is counted, too"),
        (name, last_of_both, "not the cache's"),
        (name, no_return_at_the_end, "a way has no `return`"),
        (name, loop_without_end_of_list, "a loop runs behind the end"),
        (name, pops, "without taking anything away"),
        (name, lambda read, prompt: prompt[: whole_beginning(read, prompt)], "a number of tokens"),
        (name, lambda read, prompt: whole_beginning(read, prompt[:-1]) or -1, "it returns -1"),
    ]


WRONG = [
    *prompt_checks(),
    *span_checks(),
    *sample_checks(),
    *token_checks(),
    *turn_checks(),
    *share_checks(),
    *cache_checks(),
]
