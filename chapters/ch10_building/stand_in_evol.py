"""A stand-in for the language model of Evol-Instruct: a few rules, so that the lesson runs without a server.

    python chapters/ch10_building/stand_in_evol.py                    evolve five entries, and print the tree
    python chapters/ch10_building/stand_in_evol.py --picture tree.png
    python chapters/ch10_building/stand_in_evol.py --no-faults

It is NOT a language model, and understands nothing. It tells by the words of a question whether a prompt shall be
rewritten, compared or answered. It rewrites by adding a sentence from a list, compares by counting words that differ,
and an answer of it only says where an answer would stand. What it does have are the faults of real models, so that each
rule of the eliminator has something to find. What share of entries it loses says nothing about any model.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import regex

from gptlab.building.evol_instruct import ROUNDS, EvolInstruct
from gptlab.building.evol_prompts import JUDGEMENT, METHODS
from gptlab.building.lineage import lineage_text
from gptlab.rouge import CJK, rouge_tokens
from gptlab.servers import Reply
from gptlab.servers.protocol import check_messages

ENTRIES = [
    {
        "instruction": "Name three fruits that keep through the winter.",
        "input": "",
        "output": "Apples, pears and quinces.",
    },
    {"instruction": "为什么天空是蓝色的？", "input": "", "output": "空气把蓝光散射得最多，所以天空看起来是蓝色的。"},
    {"instruction": "What is the sum of these numbers?", "input": "4, 8, 15", "output": "27"},
    {
        "instruction": "Write a short poem about a river.",
        "input": "",
        "output": "It comes from snow, it goes to sea,\nand on its way it carries me.",
    },
    {
        "instruction": "把下面的句子改写得更礼貌。",
        "input": "把窗户关上。",
        "output": "请问您可以把窗户关上吗？",
    },
]

SEED = 86  # with this one, each of the eliminator's four rules finds something in these entries
FAULTS = ("chatty", "repeats", "copies", "refuses", "wordless", "endless", "unsure")
FAULT_RATE = 0.04  # of each fault, where it may show; "chatty" comes three times as often
SMALL_CHANGE = 2  # words by which two prompts may differ and still be called equal

ADDITIONS = {  # operation -> language -> sentences
    "constraints": {
        "en": [
            "Use at most 40 words.",
            "Write for a reader who is ten years old.",
            "Give exactly one example from Asia.",
            "Do not use any word twice in a sentence.",
        ],
        "zh": ["不要超过六十个字。", "请写给十岁的孩子看。", "请只举一个例子。"],
    },
    "deepen": {
        "en": [
            "Say also why this is so, and when it is not.",
            "Compare it with how it was a hundred years ago.",
            "Who would disagree, and with which reasons?",
        ],
        "zh": ["还请说明原因，以及什么情况下并非如此。", "请与一百年前的情况相比较。", "谁会不同意，理由是什么？"],
    },
    "concretise": {
        "en": [
            "Take a village of 300 people on a cold coast as the case.",
            "Answer it for a baker who starts work at four in the morning.",
            "Refer to Norway in January.",
        ],
        "zh": ["请以武汉的一月为例。", "请以一个三百人的海边村庄为例。", "请针对凌晨四点开工的面包师来回答。"],
    },
    "reasoning": {
        "en": [
            "First list what you know, then what follows from it, and answer last.",
            "Work it out in three numbered steps, each with its reason.",
            "In a last step, check your answer in another way.",
        ],
        "zh": ["请分三步推理，并说明每一步的理由。", "先列出已知条件，再推出结论。", "最后请换一种方法检验答案。"],
    },
}
DATA = {  # format -> what "complicate" adds; the numbers mean nothing
    "XML": '<list><item days="90">A</item><item days="30">B</item></list>',
    "SQL": "CREATE TABLE things (name TEXT, days INT);",
    "Python": "def days(thing):\n    return {'A': 90, 'B': 30}.get(thing)",
    "HTML": "<table><tr><td>A</td><td>90</td></tr><tr><td>B</td><td>30</td></tr></table>",
    "shell": "$ cat things.txt\nA 90\nB 30",
    "JSON": '{"A": {"days": 90}, "B": {"days": 30}}',
}
USE_DATA = {"en": "Make use of this data:", "zh": "请使用以下数据："}
OTHERS = {  # pattern of a domain -> prompts of it, for "breadth"; the last two fit everything
    "fruit|winter|水果": [
        "Name three vegetables that were dug out of the sand in winter.",
        "Which wild berries can be picked below the snow?",
    ],
    "sum|number": ["Which two of these primes differ by six?\n5, 7, 11, 23", "What is 4095 in base eight?"],
    "poem|write": ["Write a limerick about a lighthouse.", "Write a riddle whose answer is an echo."],
    "天空|虹|光": ["为什么有时会出现双彩虹？", "极光为什么多为绿色？"],
    "改写|句子|礼貌": ["把“别迟到”改写成一封便条。", "用文言文写一句请客人进门的话。"],
    "[一-龥]": ["用一句话解释什么是回声。", "请给一位老友写一句生日祝福。"],
    "": ["Describe the taste of salt to somebody who never had any.", "How does a compass show where north is?"],
}
_CJK = regex.compile(f"[{CJK}]")


class StandIn:
    """Rewrites, compares and answers prompts by rules, with the faults that are switched on.

        chatty      writes "Sure, here is the rewritten prompt:" and quotes around it, which are taken off again
        repeats     gives the prompt back, or changes next to nothing
        copies      writes #Given Prompt# and its like into the new prompt
        refuses     is sorry, and does not answer
        wordless    answers with dots, or with words that say nothing
        endless     does not come to an end, and is cut short
        unsure      says neither Equal nor Not Equal

    Where chance decides, the question and the seed decide it: the same question with the same seed gets the same reply.
    """

    name = "stand-in"

    def __init__(self, faults: Collection[str] = FAULTS) -> None:
        if unknown := set(faults) - set(FAULTS):
            raise ValueError(f"faults are {', '.join(FAULTS)}, got {', '.join(sorted(unknown))}")
        self.faults = frozenset(faults)
        self.identity = {"kind": "rules", "model": self.name, "faults": sorted(self.faults), "options": {}}

    def with_options(self, *, seed: int | None = None, **_: Any) -> StandIn:
        """Return the same rules with another seed; see `gptlab.servers.with_options`."""
        other = copy(self)
        other.identity = self.identity | {"options": {} if seed is None else {"seed": seed}}
        return other

    def __call__(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        """Return a rewritten prompt, Equal or Not Equal, or something in the place of an answer."""
        asked = check_messages(messages)[-1]["content"]
        chance = random.Random(f"{self.identity['options'].get('seed')}/{asked}")
        if asked.endswith(JUDGEMENT):
            return Reply(self._compare(asked, chance))
        new = re.search(r"\n\n#(Rewritten|Created) Prompt#:\Z", asked)
        reply = self._rewrite(asked, new[1], chance) if new else self._answer(asked, chance)
        if self._has("endless", chance):
            return Reply(reply[: len(reply) * 2 // 3], "length")
        return Reply(reply)

    def _has(self, fault: str, chance: random.Random, *, times: float = 1.0) -> bool:
        """Whether a fault shows; chance is drawn from in any case, so that no fault changes what another does."""
        return chance.random() < times * FAULT_RATE and fault in self.faults

    def _rewrite(self, asked: str, new: str, chance: random.Random) -> str:
        given = asked.rpartition("#Given Prompt#:\n")[2].removesuffix(f"\n\n#{new} Prompt#:")
        text = _another(given, chance) if new == "Created" else _harder(given, _operation(asked), asked, chance)
        if self._has("repeats", chance, times=1.5):
            text = (
                given
                if chance.random() < 0.3
                else f"{given.rstrip('.')}{'谢谢。' if _CJK.search(given) else ' please.'}"
            )
        if self._has("copies", chance):
            text = chance.choice([f"#Given Prompt#: {text}", f"{text} Do all that the given prompt asks for."])
        if self._has("chatty", chance, times=3):
            text = chance.choice(
                [f'Sure, here is the {new.lower()} prompt:\n\n"{text}"', f"**#{new} Prompt#:**\n{text}"]
            )
        return text

    def _compare(self, asked: str, chance: random.Random) -> str:
        first, _, second = asked.partition("The First Prompt: ")[2].partition("\nThe Second Prompt: ")
        one, other = (Counter(rouge_tokens(text)) for text in (first, second.removesuffix(JUDGEMENT)))
        if self._has("unsure", chance, times=0.5):
            return "Both prompts have their merits."
        return "Equal" if (one - other).total() + (other - one).total() <= SMALL_CHANGE else "Not Equal."

    def _answer(self, asked: str, chance: random.Random) -> str:
        chinese = _CJK.search(asked) is not None
        if self._has("refuses", chance):
            return "对不起，我无法回答这个问题。" if chinese else "I'm sorry, but I cannot help with that."
        if self._has("wordless", chance):
            return "……" if chinese else chance.choice(["...", "And so on, and so on."])
        topic = " ".join(asked.split())[:30]
        return f"（替身的回答：关于“{topic}”）" if chinese else f"(Here stands the stand-in's answer to: {topic})"


def _operation(asked: str) -> str:
    """Return the operation of an in-depth prompt, by its sentence."""
    return next(name for name, method in METHODS.items() if method.partition("{")[0] in asked)


def _harder(given: str, operation: str, asked: str, chance: random.Random) -> str:
    """Return the prompt with a sentence or data that it does not have yet."""
    language = "zh" if _CJK.search(given) else "en"
    if operation == "complicate":
        format = re.search(r"data in the (\w+) format", asked)[1]
        return f"{given}\n{USE_DATA[language]}\n{DATA[format]}"
    sentences = ADDITIONS[operation][language]
    addition = chance.choice([one for one in sentences if one not in given] or sentences)
    task, end, data = given.partition("\n")  # behind the task, and before data that stands below it
    return f"{task.rstrip()}{'' if language == 'zh' else ' '}{addition}{end}{data}"


def _another(given: str, chance: random.Random) -> str:
    """Return another prompt of the same domain."""
    prompts = next(texts for pattern, texts in OTHERS.items() if re.search(pattern, given, re.IGNORECASE))
    return chance.choice([one for one in prompts if one != given])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-faults", action="store_true", help="a model that makes no mistakes")
    parser.add_argument("--seed", type=int, default=SEED, help="of the operations and the replies")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often the pool is evolved")
    parser.add_argument("--journal", type=Path, help="where the lineage is kept, to go on from")
    parser.add_argument("--picture", type=Path, help="where the tree is drawn")
    options = parser.parse_args()
    server = StandIn(() if options.no_faults else FAULTS)
    try:
        run = EvolInstruct(server, seed=options.seed, rounds=options.rounds, journal=options.journal)
        report = run.run(ENTRIES)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    print(f"{lineage_text(report.lineage)}\n\n{report}")
    if options.picture is not None:
        from gptlab.show.lineage import plot_lineage

        plot_lineage(report.lineage).savefig(options.picture)


if __name__ == "__main__":
    main()
