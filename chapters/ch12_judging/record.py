"""Make the files that the lesson reads: what three small models answer, and what a judge says about it.

    python chapters/ch12_judging/record.py                                  the stand-in judge below; no server needed
    python chapters/ch12_judging/record.py --server ollama --model phi3     a real judge; one file serves a whole class
    python chapters/ch12_judging/record.py --new-responses                  tune again, too: about a minute on two cores

The responses are real. All three models begin with the same pretrained one (`town_base()`), and answer questions about
people whom tuning never mentions, and small tasks:

    responses-full.json       all weights tuned, for a short time only, so that there is something to find wrong
    responses-lora.json       tuned as briefly with LoRA
    responses-few-shot.json   not tuned at all; one worked example stands in front of each question

The judge in replies.jsonl is NOT a language model. `StandIn` is a few rules that read the same prompts as a real judge
and write the same kinds of replies, with four of the faults that real judges have. What it thinks of a response means
nothing outside the lesson. A real judge's replies go to replies-NAME.jsonl, and the lesson reads them when its REPLIES
names that file. Asked again, the recording goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import gptlab
from gptlab import peft
from gptlab.demo import SMALL_TOWN, tune_town
from gptlab.judging import compare_responses, score_responses
from gptlab.judging.few_shot import respond_few_shot
from gptlab.rouge import rouge_tokens
from gptlab.servers import Cached, LocalModel, OllamaServer, OpenAIServer, Reply
from gptlab.servers.protocol import check_messages

HERE = Path(__file__).parent
RESPONSES = ("full", "lora", "few-shot")
ENTRIES = 60  # of the 390 of the town's test, drawn at random
TUNING_STEPS = 120
WORKED_EXAMPLES = 1  # more of them do not fit into what the model has read
LONGEST = 32  # tokens of a response

Entry = Mapping[str, Any]

# ---- the responses


def test_entries() -> list[dict[str, Any]]:
    """Return the entries that everybody answers, in the order of the town's test."""
    test = SMALL_TOWN.town().test
    return [test[place] for place in sorted(random.Random(0).sample(range(len(test)), ENTRIES))]


def tune(base: gptlab.Checkpoint, method: peft.Method | None = None, *, steps: int = TUNING_STEPS) -> gptlab.GPTModel:
    """Return a copy of the base that was tuned for a short time on the questions about the other people."""
    model, rate = copy.deepcopy(base.model), 3e-4
    if method is not None:
        peft.apply(model, method, tokenizer=base.tokenizer, generator=torch.Generator().manual_seed(0))
        rate = 5e-3
    recipe = replace(SMALL_TOWN, tuning_rate=rate, tuning_steps=steps)
    tune_town(model, base.tokenizer, SMALL_TOWN.town(), recipe, progress=False)
    return model


def answer(model: gptlab.GPTModel, base: gptlab.Checkpoint, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the entries with the model's responses, as `gptlab generate --data --out` writes them."""
    found = gptlab.respond(model, base.tokenizer, entries, "alpaca_short", max_new_tokens=LONGEST, batch_size=64)
    return with_responses(entries, found)


def answer_few_shot(
    base: gptlab.Checkpoint, entries: Sequence[Entry], count: int = WORKED_EXAMPLES
) -> list[dict[str, Any]]:
    """Return the entries with the responses of the untuned model after worked examples, without an opening."""
    examples = [entry for entry in SMALL_TOWN.town().train if entry["group"] != "skill"][:count]
    settings = {"opening": "", "max_new_tokens": LONGEST, "batch_size": 64}
    return with_responses(entries, respond_few_shot(base.model, base.tokenizer, entries, examples, **settings))


def with_responses(entries: Sequence[Entry], found: Sequence[gptlab.Response]) -> list[dict[str, Any]]:
    """Return the entries with what a model wrote, and why it stopped."""
    return [{**entry, "model_response": each.text, "ended_by": each.reason} for entry, each in zip(entries, found)]


def make_responses(folder: Path) -> None:
    """Tune, answer, and write the three files of responses."""
    base, entries = gptlab.town_base(), test_entries()
    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "full": lambda: answer(tune(base), base, entries),
        "lora": lambda: answer(tune(base, peft.LoRA(rank=8)), base, entries),
        "few-shot": lambda: answer_few_shot(base, entries),
    }
    for name, make in makers.items():
        gptlab.save_entries(folder / f"responses-{name}.json", make())
        print(f"{folder / f'responses-{name}.json'}: {len(entries)} responses")


def with_reference(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the entries with the right answer as a part of the task, for a judge who cannot know it."""
    return [
        {**entry, "input": f"{entry.get('input') or ''}\nCorrect answer: {entry['output']}".strip()}
        for entry in entries
    ]


# ---- the stand-in judge

FAULTS = ("chatty", "wordless", "first place", "long texts")
NUMBER_WEIGHT, NEW_WEIGHT = 6, 6  # a digit, or a word that the task does not hold, weighs as much as so many others
PLACE_POINTS = 15  # what the first place is worth to a judge with that preference, of 100
LONGEST_BONUS = 15  # the most that length is worth
EQUAL = 5  # points by which two responses may differ and still be called equal


class StandIn:
    """A judge made of rules, which reads only the prompt, and has the faults that are switched on.

    A score measures which words of the reference come again in the response. Numbers, and words that the task itself
    does not hold, weigh more. Of a pair that comes without a reference it knows only whether a response is about the
    task. The faults:

        chatty        writes a sentence where a number was asked for, not always one that holds a score
        wordless      about poor responses it often says what it thinks of them and gives no number at all
        first place   prefers the response that is shown first
        long texts    prefers longer ones

    Where chance decides, the prompt is its seed: the same question always gets the same reply.
    """

    name = "stand-in"

    def __init__(self, faults: Collection[str] = FAULTS) -> None:
        if unknown := set(faults) - set(FAULTS):
            raise ValueError(f"faults are {', '.join(FAULTS)}, got {', '.join(sorted(unknown))}")
        self.faults = frozenset(faults)
        self.identity = {
            "kind": "rules",
            "model": self.name,
            "faults": sorted(self.faults) if self.faults < set(FAULTS) else "all",
        }

    def __call__(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        """Return a reply to a question for a score, or for the better of two responses."""
        prompt = check_messages(messages)[-1]["content"]
        chance, texts = random.Random(prompt), fenced(prompt)
        if len(texts) != 3:
            return Reply("I do not understand what I shall judge.")
        if "Response B:" in prompt:
            return Reply(self._compare(*texts, chance))
        return Reply(self._grade(*texts, chance, strict="no words" in prompt))

    def _grade(self, task: str, reference: str, response: str, chance: random.Random, *, strict: bool) -> str:
        points = overlap(response, reference, task)
        if "long texts" in self.faults:
            points += min(LONGEST_BONUS, max(0, len(response) - len(reference)) / 3)
        score = 5 * round(min(100.0, points) / 5)
        if "wordless" in self.faults and chance.random() < (100 - score) / (400 if strict else 200):
            return chance.choice(["The response does not say what was asked for.", "This is not the correct output."])
        if "chatty" in self.faults and chance.random() < (0.1 if strict else 0.4):
            return chance.choice(
                [
                    f"I'd rate this response as {score} out of 100.",
                    f"Score: {score}\n\nThe response is compared with the correct output.",
                    f"On a scale from 0 to 100 I give {score}.",
                    f"I give it {score / 10:g}/10.",
                    f"Somewhere between {max(0, score - 10)} and {score}.",
                ]
            )
        return str(score)

    def _compare(self, task: str, first: str, second: str, chance: random.Random) -> str:
        ahead = quality(first, task) - quality(second, task)
        if "first place" in self.faults:
            ahead += PLACE_POINTS
        if "long texts" in self.faults:
            ahead += max(-LONGEST_BONUS, min(LONGEST_BONUS, len(first) - len(second)))
        if "wordless" in self.faults and chance.random() < 0.05:
            return "Both responses have their merits."
        verdict = "[[C]]" if abs(ahead) <= EQUAL else "[[A]]" if ahead > 0 else "[[B]]"
        reason = {"[[A]]": "Response A is better.", "[[B]]": "Response B is better.", "[[C]]": "I see no difference."}
        if "chatty" in self.faults and chance.random() < 0.4:
            return f"I can answer [[A]], [[B]] or [[C]]. {reason[verdict]}\n\nMy verdict is {verdict}"
        return f"{reason[verdict]}\n{verdict}"


def fenced(prompt: str) -> list[str]:
    """Return the texts between the longest fences of backticks, which no text inside can close."""
    fence = max(re.findall("`+", prompt), key=len, default="`")
    return [text.strip() for text in re.findall(rf"(?<!`){fence}(?!`)(.*?)(?<!`){fence}(?!`)", prompt, re.DOTALL)]


def overlap(response: str, reference: str, task: str) -> float:
    """Return how much of the response and the reference is the same, 0 to 100, with weights for what matters."""
    known = set(rouge_tokens(task))

    def weight(words: Counter[str]) -> int:
        return sum(count * weight_of(word) for word, count in words.items())

    def weight_of(word: str) -> int:
        return NUMBER_WEIGHT if word.isdigit() else 1 if word in known or len(word) <= 3 else NEW_WEIGHT

    said, wanted = Counter(rouge_tokens(response)), Counter(rouge_tokens(reference))
    both = weight(said) + weight(wanted)
    return 200 * weight(said & wanted) / both if both else 0.0


def quality(response: str, task: str) -> float:
    """Return how good a response looks: by the right answer, if the task holds it, else by whether it is about it."""
    asked, told, reference = task.partition("Correct answer: ")
    if told:
        return overlap(response, reference, asked)
    topics = {word for word in rouge_tokens(asked.rpartition("###")[2]) if len(word) > 4 or word.isdigit()}
    named = len(topics & set(rouge_tokens(response))) / len(topics) if topics else 0.0
    return 60 * named + 40 * response.rstrip().endswith(".")


# ---- the recording


def ask_everything(judge: Any, folder: Path, *, workers: int = 1, progress: bool = False) -> dict[str, Any]:
    """Ask all that the lesson asks, scores of the three, and full against LoRA without and with the reference.

    Returns:
        title -> report.
    """
    sides = {name: gptlab.load_entries(folder / f"responses-{name}.json") for name in RESPONSES}
    asked = {"workers": workers, "progress": progress}
    told = {name: with_reference(entries) for name, entries in sides.items()}
    reports = {f"scores of {name}": score_responses(entries, judge, **asked) for name, entries in sides.items()}
    reports["full against lora"] = compare_responses(sides["full"], sides["lora"], judge, **asked)
    reports["the same, with the right answer in the task"] = compare_responses(
        told["full"], told["lora"], judge, **asked
    )
    return reports


def chosen_judge(options: argparse.Namespace) -> Any:
    """Return the judge that the options name."""
    where = {} if options.url is None else {"url" if options.server == "ollama" else "base_url": options.url}
    if options.server is None:
        return StandIn()
    if options.server == "ollama":
        return OllamaServer(options.model or "phi3", **where)
    if options.server == "openai":
        return OpenAIServer(options.model, **where)
    return LocalModel(options.server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", help="ollama, openai, or a checkpoint's folder; None is the stand-in")
    parser.add_argument("--model", help="of the server; ollama's default is phi3")
    parser.add_argument("--url", help="of the server; None is where it usually is")
    parser.add_argument("--workers", type=int, default=1, help="questions at the same time")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the files are")
    parser.add_argument("--new-responses", action="store_true", help="tune and answer again")
    options = parser.parse_args()
    if options.server == "openai" and options.model is None:
        parser.error("--server openai needs --model")
    if options.server is None and (options.model is not None or options.url is not None):
        parser.error("--model and --url are for --server")
    folder = options.folder
    if options.new_responses or not all((folder / f"responses-{name}.json").exists() for name in RESPONSES):
        make_responses(folder)
    try:
        judge = chosen_judge(options)
        ending = "" if options.server is None else "-" + re.sub(r"[^\w.]+", "-", judge.name)
        file = folder / f"replies{ending}.jsonl"
        if options.server is None:
            file.unlink(missing_ok=True)  # it takes a second, and an older version of the rules may have said otherwise
        settings = {"workers": options.workers, "progress": options.server is not None}
        reports = ask_everything(Cached(judge, file), folder, **settings)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    for title, report in reports.items():
        print(f"{title}\n{report}\n")
    if any(report.n_failed for report in reports.values()):
        raise SystemExit(f"not all questions were answered; run this again, and {file} gets only what is missing")
    print(f"all replies are in {file}")


if __name__ == "__main__":
    main()
