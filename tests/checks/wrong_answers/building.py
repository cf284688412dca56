"""Usual mistakes in chapter 10's exercises: check, wrong answer, words of the hint that should come."""

import json
import re

from gptlab.rouge import lcs_length


def count_checks(name="building.counts"):
    def by(first, second):
        return lambda n, k, both, rounds: (first(n, k, both), second(first(n, k, both), rounds))

    def right(n, k, both):
        return n * k * (1 + both)

    def most(entries, rounds):
        return entries * (1 + rounds)

    return [
        (name, by(lambda n, k, both: n * k, most), "with both directions"),
        (name, by(lambda n, k, both: n * (1 + both), most), "3 templates for each of 7"),
        (name, by(lambda n, k, both: n * k + n * both, most), "each direction has templates of its own"),
        (name, by(right, lambda entries, rounds: entries * rounds), "the given entries stay"),
        (name, by(right, lambda entries, rounds: entries * 2**rounds), "takes its parent's place"),
        (name, by(right, lambda entries, rounds: entries * 2), "10 entries in 4 rounds"),
        (name, lambda *given: by(right, most)(*given)[::-1], "the wrong way round"),
        (name, lambda n, k, both, rounds: (float(right(n, k, both)), 0.0), "whole numbers"),
        (name, lambda n, k, both, rounds: right(n, k, both), "should be a tuple"),
        (name, lambda *given: None, "`return`"),
    ]


def chained(template, values):
    for name, value in values.items():
        template = template.replace(f"[{name}]", value)
    return template


def chained_input_last(template, values):
    return chained(template, {name: values[name] for name in sorted(values, key=lambda name: name == "input")})


def until_none_is_left(template, values):
    while hole := re.search(r"\[([a-z_]+)\]", template):
        template = template.replace(hole[0], values[hole[1]])
    return template


def by_pattern(pattern, *, value=lambda values, name: values[name], after=lambda text: text, count=0):
    return lambda template, values: after(re.sub(pattern, lambda hole: value(values, hole[1]), template, count=count))


def text_replacement(template, values):
    for name, value in values.items():
        template = re.sub(rf"\[{name}\]", value, template)
    return template


def as_format(template, values):
    return template.replace("[", "{").replace("]", "}").format(**values)


def takes_out(template, values):
    return re.sub(r"\[([a-z_]+)\]", lambda hole: values.pop(hole[1]), template)


HOLE = r"\[([a-z_]+)\]"


def fill_checks(name="building.fill"):
    return [
        (name, chained, "was taken for a hole"),
        (name, chained_input_last, "taken for a hole"),
        (name, until_none_is_left, "taken for a hole"),
        (name, text_replacement, "was taken for a hole"),
        (name, by_pattern(r"\[(\w+)\]"), "KeyError"),
        (name, by_pattern(r"\[(\w+)\]", value=lambda values, name: values.get(name, "")), "is no hole, and stays"),
        (name, by_pattern(HOLE, count=1), "each hole gets its value"),
        (name, by_pattern(HOLE, value=lambda values, name: values.get(name, f"[{name}]")), "is a KeyError"),
        (name, by_pattern(HOLE, value=lambda values, name: values[name].strip()), "spaces were touched"),
        (name, by_pattern(HOLE, value=lambda values, name: values[name].replace("{", "")), "braces"),
        (name, by_pattern(r"\b\[([a-z_]+)\]"), "the hole [input]"),
        (name, by_pattern(r"(?<= )\[([a-z_]+)\]"), "more than once"),
        (name, by_pattern(r"[\[{]([a-z_]+)[\]}]"), "braces are no holes"),
        (name, as_format, "Replacement index"),
        (name, takes_out, "were changed"),
        (name, lambda template, values: re.sub(HOLE, values["input"], template), "each hole gets its value"),
        (name, lambda template, values: re.sub(r"\[input\]", values["input"], template), "each hole gets its value"),
        (name, only_backslash_wrong, "give `re.sub` a function"),
        (name, lambda template, values: None, "`return`"),
    ]


def only_backslash_wrong(template, values):
    pieces = re.split(HOLE, template)
    for place in range(1, len(pieces), 2):
        pieces[place] = re.sub("x", values[pieces[place]], "x")
    return "".join(pieces)


def leak_checks(name="building.leaks"):
    def known(training):
        return {text for pair in training for text in pair}

    return [
        (name, lambda test, training: sum(pair in training for pair in test), "the other way round"),
        (
            name,
            lambda test, training: sum(pair in training or pair[::-1] in training for pair in test),
            "what is asked was asked",
        ),
        (name, lambda test, training: sum(a in {x for x, _ in training} for a, _ in test), "the other way round"),
        (name, lambda test, training: sum(a in known(training) for a, _ in test), "the answer is an answer"),
        (
            name,
            lambda test, training: sum(a in {x for x, _ in training} or b in {y for _, y in training} for a, b in test),
            "the other way round",
        ),
        (name, lambda test, training: sum(text in known(training) for pair in test for text in pair), "got 2"),
        (
            name,
            lambda test, training: sum(bool({*one} & {*two}) for one in test for two in training),
            "one pair of the test",
        ),
        (name, lambda test, training: sum({*pair} <= known(training) for pair in test), "what is asked was asked"),
        (name, lambda test, training: len({pair for pair in test if known(training) & {*pair}}), "counts twice"),
        (
            name,
            lambda test, training: sum(any(text in "".join(known(training)) for text in pair) for pair in test),
            "a part of a text is another",
        ),
        (name, lambda test, training: sum(not known(training) & {*pair} for pair in test), "neither text"),
        (name, lambda test, training: bool(test), "a number of pairs"),
        (name, takes_from_test, "were changed"),
        (name, lambda test, training: None, "`return`"),
    ]


def takes_from_test(test, training):
    known = {text for pair in training for text in pair}
    count = 0
    while test:
        count += not known.isdisjoint(test.pop())
    return count


def scanning(*, behind=lambda start, length: start + length, broken=lambda start: start + 1):
    def find_objects(text):
        found, start = [], text.find("{")
        while start >= 0:
            try:
                one, length = json.JSONDecoder().raw_decode(text[start:])
                found.append(one)
                start = text.find("{", behind(start, length))
            except json.JSONDecodeError:
                if broken is None:
                    break
                start = text.find("{", broken(start))
        return found

    return find_objects


def by_regex(pattern, flags=re.DOTALL):
    def find_objects(text):
        found = []
        for piece in re.findall(pattern, text, flags):
            try:
                found.append(json.loads(piece))
            except json.JSONDecodeError:
                continue
        return found

    return find_objects


def by_lines(text):
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line.strip().rstrip(",")))
        except json.JSONDecodeError:
            continue
    return found


def unique(text):
    found = scanning()(text)
    return [one for place, one in enumerate(found) if one not in found[:place]]


def object_checks(name="building.find_objects"):
    return [
        (name, lambda text: [json.loads(text)], "raises JSONDecodeError"),
        (name, lambda text: json.loads(text[text.find("[") : text.rfind("]") + 1] or "[]"), "an object alone"),
        (name, by_lines, "words around an object"),
        (name, by_regex(r"\{.*\}"), "without a list around them"),
        (name, by_regex(r"\{.*?\}"), "belongs to the text"),
        (name, by_regex(r"\{.*?\}", 0), "several lines"),
        (name, by_regex(r"\{[^{}]*\}"), "belongs to the text"),
        (name, scanning(behind=lambda start, length: start + 1), "does not come again"),
        (name, scanning(broken=None), "the one behind it is found"),
        (name, scanning(broken=lambda start: start + 3), "the object behind it is found"),
        (name, lambda text: scanning()(text)[:1], "without a list around them"),
        (name, lambda text: scanning()(text)[::-1], "without a list around them"),
        (name, unique, "comes twice"),
        (name, lambda text: tuple(scanning()(text)), "a list was asked for"),
        (name, lambda text: [json.dumps(one) for one in scanning()(text)], "should be a dict"),
        (name, lambda text: scanning()(text.encode("ascii", "ignore").decode()), "Chinese is text"),
        (name, lambda text: None, "`return`"),
    ]


def f_measure(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rouge(words, other, *, common=lcs_length, score=f_measure):
    length = common(words, other)
    return score(length / len(words), length / len(other))


def against(compare, *, over=max, out=lambda score, threshold: score > threshold):
    def is_new(words, pool, threshold=0.7):
        return not pool or not out(over([compare(words, other) for other in pool]), threshold)

    return is_new


def bag(words, other):
    return len(set(words) & set(other))


def repeated(words, other):
    return sum(word in other for word in words)


def run_of(words, other):
    """Return the length of the longest run that both have."""
    spans = [(i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    runs = [words[i:j] for i, j in spans if any(other[k : k + j - i] == words[i:j] for k in range(len(other)))]
    return max(map(len, runs), default=0)


def with_common(common):
    return against(lambda words, other: rouge(words, other, common=common))


def with_score(score):
    return against(lambda words, other: rouge(words, other, score=score))


def all_in_one(words, pool, threshold=0.7):
    return not pool or rouge(words, [word for other in pool for word in other]) <= threshold


def fixed_threshold(words, pool, threshold=0.7):
    return against(rouge)(words, pool, 0.7)


def no_default(words, pool, threshold=0.9):
    return against(rouge)(words, pool, threshold)


def changes_pool(words, pool, threshold=0.7):
    new = against(rouge)(words, pool, threshold)
    pool.append(words)
    return new


def unguarded(precision, recall):
    return 2 * precision * recall / (precision + recall)


def novelty_checks(name="building.is_new"):
    return [
        (name, with_common(bag), "another order"),
        (name, with_common(repeated), "another order"),
        (name, with_common(run_of), "gaps are allowed"),
        (name, with_common(lambda words, other: sum(a == b for a, b in zip(words, other))), "gaps are allowed"),
        (name, with_score(lambda precision, recall: precision), "R = 1"),
        (name, with_score(lambda precision, recall: recall), "P = 3/9"),
        (name, with_score(lambda precision, recall: (precision + recall) / 2), "both count"),
        (name, with_score(max), "both count"),
        (name, with_score(min), "gaps are allowed"),
        (name, with_score(unguarded), "with nothing in common"),
        (name, with_score(lambda precision, recall: f_measure(precision, recall) / 2), "ROUGE-L 1"),
        (name, against(rouge, out=lambda score, threshold: score >= threshold), "exactly 0.5"),
        (name, against(rouge, over=lambda scores: sum(scores) / len(scores)), "enough, the first here"),
        (name, against(rouge, over=lambda scores: scores[-1]), "the first here"),
        (name, against(rouge, over=lambda scores: scores[0]), "the last here"),
        (name, against(rouge, over=min), "the first here"),
        (name, all_in_one, "the first here"),
        (name, fixed_threshold, "0.49"),
        (name, no_default, "where none is given"),
        (name, changes_pool, "were changed"),
        (name, lambda *given: not against(rouge)(*given), "empty pool"),
        (name, lambda *given: float(against(rouge)(*given)), "True or False"),
        (name, lambda *given: None, "`return`"),
    ]


def says(reply):
    plain = reply.lower().replace("*", "").strip(" .\n")
    return {"equal": True, "not equal": False}.get(plain)


def holds(reply):
    return "equal" in reply.lower()


def not_first(reply):
    reply = reply.lower()
    return False if "not equal" in reply else True if "equal" in reply else None


def equal_checks(name="building.says_equal"):
    return [
        (name, holds, "says the contrary"),
        (name, lambda reply: "not" not in reply.lower(), "says neither"),
        (name, lambda reply: "not" not in reply.lower() if reply.strip() else None, "has to be the answer"),
        (name, lambda reply: {"Equal": True, "Not Equal": False}.get(reply), "upper and lower case"),
        (name, lambda reply: {"equal": True, "not equal": False}.get(reply.lower()), "a full stop at the end"),
        (name, lambda reply: {"equal": True, "not equal": False}.get(reply.lower().strip(" .\n")), "asterisks"),
        (
            name,
            lambda reply: {"equal": True, "not equal": False}.get(reply.lower().strip("* .\n")),
            "wherever they stand",
        ),
        (name, not_first, "wherever they stand"),
        (name, lambda reply: not_first(reply.replace("*", "")), "has to be the answer"),
        (name, lambda reply: bool(says(reply)), "says neither"),
        (name, lambda reply: not says(reply) if says(reply) is not None else None, "they are equal"),
        (
            name,
            lambda reply: says("not equal" if reply.lower().startswith("not") else reply),
            "another word",
        ),
        (name, lambda reply: says(re.sub(r"(?i)unequal", "not equal", reply)), "'unequal'"),
        (name, lambda reply: says(reply.partition(",")[0]), "more in it than the answer"),
        (name, lambda reply: "equal", "True, False or None"),
        (name, lambda reply: None, "got None"),
    ]


WRONG = [
    *count_checks(),
    *fill_checks(),
    *leak_checks(),
    *object_checks(),
    *novelty_checks(),
    *equal_checks(),
]
