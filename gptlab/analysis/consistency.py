"""Knowledge consistency: does a tuned model still choose as its base did?

Both models get the same multiple-choice questions. The base, which was never tuned, reads worked examples and then the
question, without a template; the tuned model reads the question alone, in its template. Only the order of the options
counts, not how sure a model is: see `gptlab.analysis.agreement`. Three ways to get probabilities of the options:

    letters           p(A), p(B) ... after the options were listed, and nothing else in the softmax
    options           the likelihood of each option's own words, when no options are listed
    options per byte  the same with the logarithm divided by the option's length, which long options suffer from

Letters are what the paper reads. A small model has never chosen by letter, and then they say nothing about what it
knows, however high the correlation: look at chance beside it, and at the options' own likelihoods.

A letter's tokens depend on what stands before it: after "Answer:" comes " A", after a line break "A", two tokens of
most vocabularies. `letters` says which is meant; by default the probabilities of both are added.

Source: Ren et al. 2024, arXiv 2402.18243, section 3, and its code; Gao et al., lm-evaluation-harness (acc_norm, for
likelihoods per byte).
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptlab.analysis.agreement import Agreement, agreement
from gptlab.analysis.continuations import continuation_scores
from gptlab.data import ChatFormat, Template, find_template
from gptlab.data.town import ASKED, HELD_OUT, Town
from gptlab.data.town_wordings import ATTRIBUTES
from gptlab.decoding.respond import prompt_ids
from gptlab.model import GPTModel
from gptlab.tokenizer import Tokenizer, as_tokenizer
from gptlab.weights import Checkpoint

Question = Mapping[str, Any]  # "question", "options", perhaps "answer" (from 0, or its letter) and "stem"

LETTERS = string.ascii_uppercase
LETTER_FORMS = {"either": ("", " "), "bare": ("",), "spaced": (" ",)}  # what stands before a letter
MEASURES = ("letters", "options", "options per byte")


@dataclass(frozen=True)
class ConsistencyReport:
    """How alike base and tuned model choose; `print` it for a table.

    Attributes:
        agreements: for each of MEASURES, what was found.
        probabilities: for each of MEASURES, of each question's options: those of the base and of the tuned model.
        shots: worked examples that the base read.
    """

    agreements: dict[str, Agreement]
    probabilities: dict[str, tuple[list[list[float]], list[list[float]]]] = field(repr=False)
    shots: int

    @property
    def letters(self) -> Agreement:
        """What the paper reports."""
        return self.agreements["letters"]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON can hold them."""
        return {"shots": self.shots, **{name: found.to_dict() for name, found in self.agreements.items()}}

    def __str__(self) -> str:
        first = self.letters
        lines = [f"{first.n:,} questions; the base read {self.shots} examples, the tuned model its template", ""]
        lines.append(f"{'':<30}" + "".join(f"{name:>22}" for name in self.agreements))
        rows: list[tuple[str, Callable[[Agreement], str]]] = [
            ("correlation of ranks", lambda a: f"{a.rank_correlation:.3f}"),
            ("  chance, options shuffled", lambda a: _between(a.options_shuffled)),
            ("    p", lambda a: f"{a.options_shuffled.p:.3f}"),
            ("  chance, questions shuffled", lambda a: _between(a.questions_shuffled)),
            ("    p", lambda a: f"{a.questions_shuffled.p:.3f}"),
            ("  without an order", lambda a: f"{a.undefined:,}"),
            ("correlation of probabilities", lambda a: f"{a.correlation:.3f}"),
            ("KL(base || tuned), nats", lambda a: f"{a.kl:.3f}"),
            ("cosine", lambda a: f"{a.cosine:.3f}"),
            ("same first choice", lambda a: f"{a.same_choice:.1%}"),
            ("right, base", lambda a: "?" if a.base_accuracy is None else f"{a.base_accuracy:.1%}"),
            ("right, tuned", lambda a: "?" if a.tuned_accuracy is None else f"{a.tuned_accuracy:.1%}"),
        ]
        for title, show in rows:
            lines.append(f"{title:<30}" + "".join(f"{show(found):>22}" for found in self.agreements.values()))
        return "\n".join(lines)


class _Side(NamedTuple):
    model: GPTModel
    tokenizer: Tokenizer
    template: Template | ChatFormat | None  # None reads plain text


def knowledge_consistency(
    base: Checkpoint | GPTModel,
    tuned: Checkpoint | GPTModel,
    questions: Sequence[Question],
    *,
    examples: Sequence[Question] = (),
    tokenizer: Tokenizer | None = None,
    template: str | Path | Template | ChatFormat | None = None,
    letters: str = "either",
    permutations: int = 1000,
    seed: int = 0,
    batch_size: int = 16,
) -> ConsistencyReport:
    """Return how alike two models order the options of multiple-choice questions.

    Args:
        base: never tuned; a Checkpoint, whose template is not used, or its model alone. Left in the mode that it was
            in, as is the other.
        tuned: tuned from it. The two may have different vocabularies, since only letters and options are compared.
        questions: each with "question", "options" (2 to 26 texts), perhaps "answer" (its number from 0, or its letter),
            and perhaps "stem", how an answer begins that an option goes on with, such as "Its colour is ".
        examples: questions with answers, which the base reads first, in this order; the paper takes five.
        tokenizer: of models that come without one.
        template: the form that the tuned model was tuned with; None is its checkpoint's.
        letters: "either" adds the probabilities of "A" and " A", "bare" and "spaced" take one of them.
        permutations: how many shuffles show what chance gives.
        seed: of the shuffles.
        batch_size: rows read together.

    Raises:
        ValueError: there are no questions; a question or an example is not one, or is in both; an example has no
            answer; a model has no tokenizer, or the tuned one no template; a question does not fit into the context; or
            a setting is out of its range.
    """
    if letters not in LETTER_FORMS:
        raise ValueError(f"letters must be one of {', '.join(LETTER_FORMS)}, got {letters!r}")
    answers = _check(questions, examples)
    sides = _side(base, tokenizer), _side(tuned, tokenizer, template, tuned=True)
    if sides[1].template is None:
        raise ValueError("the tuned model needs a template: give a Checkpoint, or template=")
    forms = LETTER_FORMS[letters]
    by_letter = [_letter_scores(side, questions, examples, forms, batch_size) for side in sides]
    by_words = [_option_scores(side, questions, examples, batch_size) for side in sides]
    per_byte = [
        [
            [score / len(option.encode("utf-8")) for score, option in zip(scores, question["options"])]
            for scores, question in zip(both, questions)
        ]
        for both in by_words
    ]
    scored = dict(zip(MEASURES, (by_letter, by_words, per_byte)))
    found = {name: tuple([softmax(row) for row in side] for side in both) for name, both in scored.items()}
    agreements = {name: agreement(*both, answers, permutations=permutations, seed=seed) for name, both in found.items()}
    return ConsistencyReport(agreements, found, len(examples))


def town_choices(town: Town, *, options: int = 4, people: str = HELD_OUT, seed: int = 0) -> list[dict[str, Any]]:
    """Return a multiple-choice question for each fact of the town's people; wrong options are other values.

    The wording is one of the questions that tuning uses, drawn for each, and the stem is how the town answers it.

    Args:
        town: whose facts.
        options: how many, the right one among them.
        people: HELD_OUT, those whom tuning never mentions, or ASKED, those whom it does.
        seed: of wordings, wrong options and their order.

    Raises:
        ValueError: options is below 2 or above the number of values, or people is neither.
    """
    most = min(len(attribute.values) for attribute in ATTRIBUTES)
    if not 2 <= options <= most:
        raise ValueError(f"options must be in [2, {most}], got {options}")
    if people not in (ASKED, HELD_OUT):
        raise ValueError(f"people must be {ASKED!r} or {HELD_OUT!r}, got {people!r}")
    rng, found = random.Random(seed), []
    for person in town.asked if people == ASKED else town.held_out:
        for attribute in ATTRIBUTES:
            right = person.facts[attribute.name]
            chosen = [right, *rng.sample([value for value in attribute.values if value != right], k=options - 1)]
            rng.shuffle(chosen)
            stem = attribute.statements[0].format(name=person.name, value="|").split("|")[0]
            question = rng.choice(attribute.questions).format(name=person.name)
            where = {"answer": chosen.index(right), "stem": stem, "kind": attribute.name, "group": people}
            found.append({"question": question, "options": chosen, **where})
    return found


def question_text(question: Question) -> str:
    """Return a question with its options, one in a line with its letter.

    >>> print(question_text({"question": "Where?", "options": ["here", "there"]}))
    Where?
    A. here
    B. there
    """
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, question["options"])]
    return "\n".join([question["question"], *lines])


def few_shot_text(asked: str, examples: Sequence[tuple[str, str]]) -> str:
    """Return what a base model goes on with: questions with answers, and a question.

    >>> print(few_shot_text("Where?", [("Who?", "me")]))
    Question: Who?
    Answer: me
    <BLANKLINE>
    Question: Where?
    Answer:
    """
    shown = [f"Question: {question}\nAnswer: {answer}" for question, answer in examples]
    return "\n\n".join([*shown, f"Question: {asked}\nAnswer:"])


def softmax(scores: Sequence[float]) -> list[float]:
    """Return the probabilities that logarithms stand for, however far below 0 all of them are."""
    values = np.exp(np.array(scores) - max(scores))
    return (values / values.sum()).tolist()


def _letter_scores(
    side: _Side, questions: Sequence[Question], examples: Sequence[Question], forms: Sequence[str], batch_size: int
) -> list[list[float]]:
    """Return the logarithm of each letter's probability, for each question."""
    worked = [(question_text(each), LETTERS[_answer(each)]) for each in examples]
    prompts, continuations = [], []
    for question in questions:
        text = question_text(question)
        prompts.append(_prompt(side, text, worked))
        count = len(question["options"])
        continuations.append(
            [side.tokenizer.encode_ordinary(form + each) for each in LETTERS[:count] for form in forms]
        )
    scores = continuation_scores(side.model, prompts, continuations, batch_size=batch_size)
    return [np.logaddexp.reduce(np.array(row).reshape(-1, len(forms)), axis=1).tolist() for row in scores]


def _option_scores(
    side: _Side, questions: Sequence[Question], examples: Sequence[Question], batch_size: int
) -> list[list[float]]:
    """Return the log-likelihood of each option's words, for each question."""
    worked = [(each["question"], each.get("stem", "") + each["options"][_answer(each)]) for each in examples]
    prompts, continuations = [], []
    for question in questions:
        # A space between the prompt and an option is part of the option's first token.
        opening = (" " if side.template is None else "") + question.get("stem", "")
        stem = opening.rstrip(" ")
        space = opening[len(stem) :]
        prompts.append(_prompt(side, question["question"], worked) + side.tokenizer.encode_ordinary(stem))
        continuations.append([side.tokenizer.encode_ordinary(space + option) for option in question["options"]])
    return continuation_scores(side.model, prompts, continuations, batch_size=batch_size)


def _prompt(side: _Side, text: str, worked: Sequence[tuple[str, str]]) -> list[int]:
    if side.template is None:
        return side.tokenizer.encode_ordinary(few_shot_text(text, worked))
    return prompt_ids(side.template, {"instruction": text, "input": ""}, side.tokenizer)


def _side(model: Any, tokenizer: Any, template: Any = None, *, tuned: bool = False) -> _Side:
    if isinstance(model, Checkpoint):
        tokenizer = model.tokenizer if tokenizer is None else tokenizer
        template = model.template if tuned and template is None else template
        model = model.model
    if tokenizer is None:
        raise ValueError("a model without its tokenizer: give a Checkpoint, or tokenizer=")
    return _Side(model, as_tokenizer(tokenizer), None if template is None else find_template(template))


def _check(questions: Sequence[Question], examples: Sequence[Question]) -> list[int | None]:
    """Return the questions' right answers, from 0, or raise ValueError for the first question that is none."""
    if not questions:
        raise ValueError("there are no questions")
    for what, group in (("question", questions), ("example", examples)):
        for number, each in enumerate(group, start=1):
            options = each.get("options") if isinstance(each, Mapping) else None
            texts = (
                [*options, each.get("question"), each.get("stem", "")] if isinstance(options, list | tuple) else [None]
            )
            if not all(isinstance(text, str) for text in texts) or not all(texts[:-1]):
                raise ValueError(
                    f"{what} {number} needs a question and a list of options, all of text, got {each!r:.80}"
                )
            if not 2 <= len(options) <= len(LETTERS) or len(set(options)) < len(options):
                raise ValueError(f"{what} {number} needs 2 to {len(LETTERS)} different options, got {list(options)}")
            if _answer(each) is None and (what == "example" or each.get("answer") is not None):
                allowed = f"0 to {len(options) - 1}, or A to {LETTERS[len(options) - 1]}"
                raise ValueError(f"{what} {number}: answer must be {allowed}, got {each.get('answer')!r}")
    shown = {each["question"]: number for number, each in enumerate(examples, start=1)}
    for number, each in enumerate(questions, start=1):
        if each["question"] in shown:
            raise ValueError(f"question {number} is also example {shown[each['question']]}, which tells its answer")
    return [_answer(question) for question in questions]


def _answer(question: Question) -> int | None:
    """Return the number of the right option from 0; None if it is not told, or is none."""
    answer, count = question.get("answer"), len(question["options"])
    if isinstance(answer, str) and len(answer) == 1:
        answer = LETTERS.find(answer.upper())
    whole = isinstance(answer, Integral) and not isinstance(answer, bool)
    return int(answer) if whole and 0 <= answer < count else None


def _between(chance: Any) -> str:
    return f"{chance.mean:.3f} ({chance.low:.2f}, {chance.high:.2f})"
