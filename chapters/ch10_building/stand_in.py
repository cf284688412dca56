"""A stand-in for the model that Self-Instruct asks, so that the lesson runs without any server.

`StandIn` is NOT a language model. It is a table of skills with blanks ("Explain {what} to {whom}{how}.") and a few
rules that read the same three questions as a real model and answer in the same forms: more tasks, whether one is
classification, and examples of one. Its tasks are simple, and so are its answers. What matters here is that it makes
the mistakes that real models make, each of which can be switched off:

    markdown   numbers its list as **9.**, 9), 9、, with bullets, or again from 1
    chatty     says "Sure! Here are more tasks:" before, and something friendly after
    copies     gives a task of the prompt again, in slightly other words
    unfit      asks for pictures and programs, for something in three words, or in 160, begins with a dash or in French
    endless    goes on after the seventh task
    cut        is sometimes cut by length, in the middle of a sentence
    nonsense   sometimes says something that is no answer at all
    sloppy     gives examples whose output is missing, is the input, or contradicts another; and is wrong about the kind

Where chance decides, the question is its seed: the same question always gets the same reply.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptlab.servers import Reply
from gptlab.servers.protocol import check_messages

FAULTS = ("markdown", "chatty", "copies", "unfit", "endless", "cut", "nonsense", "sloppy")
NEW = range(9, 16)  # the numbers of the items that Self-Instruct asks for

Slots = Mapping[str, str]
Examples = list[tuple[str, str]]  # input, output; the input with the names of its fields


@dataclass(frozen=True)
class Skill:
    """A kind of task.

    Attributes:
        template: an instruction with blanks.
        slots: what fits into each blank.
        solve: examples of one filled-in instruction.
        labels: whether the task is classification.
    """

    template: str
    slots: Mapping[str, Sequence[str]]
    solve: Callable[[Slots, random.Random], Examples]
    labels: bool = False

    def invent(self, chance: random.Random) -> str:
        """Return a filled-in instruction."""
        return self.template.format(**{name: chance.choice(list(options)) for name, options in self.slots.items()})

    def recognise(self, instruction: str) -> dict[str, str] | None:
        """Return what stands in the blanks, None if the instruction is not of this kind."""
        parts = re.split(r"\{(\w+)\}", self.template)
        groups = [f"(?P<{name}>{'|'.join(map(re.escape, self.slots[name]))})" for name in parts[1::2]]
        pattern = "".join(re.escape(text) + group for text, group in zip(parts[::2], [*groups, ""]))
        found = re.fullmatch(pattern, instruction)
        return None if found is None else found.groupdict()


# ---- what the skills know

TOPICS = {
    "a lighthouse in winter": "The lamp burns although no ship is out. The keeper counts the waves until it is light.",
    "the last bus home": "The driver waits a minute longer than he must. Somebody always comes running.",
    "a garden on a roof": "Between the chimneys the beans are climbing. Even the bees have found the way up.",
    "a lost umbrella": "It leaned in the corner of the library for a week. Then it rained, and everybody wanted it.",
    "market day in a small town": "By six the square smells of bread and wet wood. By noon only the pigeons are left.",
    "an old piano": "Two keys are silent, and one sings too long. Nobody would part with it.",
    "the first snow": "The street is white and the school is late. Even the dog walks on tiptoe.",
    "a bridge that is being repaired": "For a year all of us have gone the long way round. We have met our neighbours.",
}
OPENINGS = {
    "a diary entry": "Tuesday evening.",
    "a notice for the village board": "Dear neighbours,",
    "a short fable": "Long ago it happened like this.",
    "a postcard": "Dear Grandma,",
    "the beginning of a radio report": "Good morning, listeners.",
    "a speech of one minute": "Ladies and gentlemen,",
}
RULES = {
    "": "",
    " that ends with a question": " What would you have done?",
    " for readers of eight years": " That is really how it was.",
    " in which the weather plays a part": " And all the while it rained.",
    " with a cheerful last sentence": " What a lovely day!",
}
REASONS = {
    "why the sky is blue": "Air scatters blue light more than red, so blue reaches us from all sides",
    "why bread rises": "Yeast eats sugar and gives off a gas, and the bubbles of it lift the dough",
    "how a thermos flask keeps tea hot": "Heat hardly passes where nothing is, and nothing is between its two walls",
    "why leaves turn yellow in autumn": "The tree takes back what is green, and the yellow was always there",
    "how a compass works": "Its needle is a small magnet, and the Earth is a large one that turns it north",
    "why ships made of steel float": "A ship is hollow, and pushes away more water than it weighs",
    "what causes the tides": "The Moon pulls at the water of the sea, and the Earth turns beneath the bulges",
    "why we see lightning before we hear thunder": "Light is much faster than sound, so it arrives first",
}
AUDIENCES = {
    "a child of six": "Look: ",
    "a curious neighbour": "It is quite simple. ",
    "a class of beginners": "Let us put it like this. ",
    "somebody who distrusts experts": "You can check it yourself. ",
}
MANNERS = {"": "", " in one sentence": "", " and name an everyday example": ". Have a look in the kitchen"}
OPPOSITES = {
    **{"cold": "hot", "early": "late", "full": "empty", "narrow": "wide", "cheap": "expensive"},
    **{"noisy": "quiet", "rough": "smooth", "brave": "timid"},
}
GROUPS = {
    "fruit": ("plum", "pear", "cherry"),
    "tool": ("hammer", "saw", "pliers"),
    "animal": ("otter", "heron", "badger"),
    "vehicle": ("tram", "ferry", "bicycle"),
    "garment": ("scarf", "glove", "apron"),
}
CAPITALS = {
    **{"Norway": "Oslo", "Portugal": "Lisbon", "Japan": "Tokyo", "Peru": "Lima", "Egypt": "Cairo", "Canada": "Ottawa"},
    **{"Kenya": "Nairobi", "Vietnam": "Hanoi"},
}
FUNCTIONS = {
    "returns the words of a text in reverse order": "return text.split()[::-1]",
    "counts how often a letter occurs in a text": "return text.count(letter)",
    "tells whether a year is a leap year": "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
    "joins two sorted lists into one": "return sorted(first + second)",
    "removes duplicates from a list but keeps the order": "return list(dict.fromkeys(items))",
    "finds the longest word of a sentence": "return max(sentence.split(), key=len)",
}
NAMES = {
    "a bakery next to a railway station": "The Early Loaf, Platform Bread and Crumbs",
    "a choir of retired sailors": "The Old Salts, Low Tide and Anchor Song",
    "a shop for repaired bicycles": "Second Wheel, The Spoke and Round Again",
    "a newsletter about the night sky": "Clear Night, The Dark Page and Looking Up",
}
PAIRS = {
    "tea with coffee": "Tea is milder and there are more kinds of it; coffee is stronger and quicker to wake you",
    "a train with a coach": "The train is faster and has more room; the coach is cheaper and stops nearer to the door",
    "a novel with a play": "A novel tells you what people think; a play lets you see what they do",
    "a lake with a river": "A lake stays where it is; a river is always on its way to somewhere else",
}
CARE = {
    "repot a plant that has grown too large": "Take a pot two fingers wider, loosen the roots, and water it well",
    "choose a birthday present for a colleague": "Ask what the person does on Sundays, and do not spend too much",
    "learn ten new words of a language every day": "Repeat yesterday's words first, and use each in a sentence",
    "cycle to work in the rain": "Brake early, keep your lights on, and put dry socks into your bag",
    "sell a used piano": "Have it tuned, be honest about its age, and say on which floor it stands",
}
GOOD_FOR = {
    "每天散步": "一、身体更健康；二、心情更好；三、晚上睡得香。",
    "坐火车旅行": "一、不堵车；二、可以看风景；三、比开车省力。",
    "自己做饭": "一、干净卫生；二、省钱；三、合自己的口味。",
}
PRAISE = ("I came away happy and will come again.", "Everything was ready on time, thank you.")
BLAME = ("Nobody answered my question, and I had to wait for an hour.", "It broke on the first day.")
SENTENCES = (
    "The baker opens at six.",
    "My sister plays the cello in a large orchestra.",
    "Rain fell on the quiet harbour.",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WORDS = {
    "words": ("lamp", "orchard", "tide", "velvet", "ink", "meadow"),
    "names of towns": ("Leeds", "Bath", "York", "Canterbury", "Ely", "Durham"),
    "first names": ("Maud", "Olivia", "Tom", "Bea", "Gregory", "Ida"),
}
ORDERS: dict[str, Callable[[list[str]], list[str]]] = {
    "in alphabetical order": sorted,
    "from Z to A": lambda words: sorted(words, reverse=True),
    "by their length, the shortest first": lambda words: sorted(words, key=lambda word: (len(word), word)),
}
CHANGES: dict[str, Callable[[str], str]] = {
    "in capital letters": str.upper,
    "with its words in reverse order": lambda text: " ".join(text.rstrip(".").split()[::-1]),
    "without any vowels": lambda text: re.sub("[aeiouAEIOU]", "", text),
    "as a question that begins with 'Is it true that'": lambda text: f"Is it true that {text[0].lower()}{text[1:-1]}?",
}
PROPERTIES: dict[str, Callable[[int], bool]] = {
    "is even": lambda number: number % 2 == 0,
    "can be divided by three": lambda number: number % 3 == 0,
    "is the square of another one": lambda number: round(number**0.5) ** 2 == number,
    "has more than two digits": lambda number: number > 99,
}
RATES = {"kilometres to miles": 0.621371, "kilograms to pounds": 2.204623, "litres to gallons": 0.264172}
CHINESE_TOPICS = {
    "雨后的小巷": "石板路还是湿的，屋檐滴着水，远处传来卖花的声音。",
    "爷爷的茶壶": "壶嘴缺了一角，爷爷却舍不得换，说旧壶泡的茶更香。",
    "校园的早晨": "操场上有人跑步，图书馆门口已经排起了队。",
    "除夕的厨房": "蒸笼冒着白气，妈妈在包饺子，锅里的鱼正香。",
}
CHINESE_FORMS = {"一则日记": "今天是星期二。", "一小段散文": "有些景象是忘不了的。", "一条朋友圈": "随手记下："}
CHINESE_REASONS = {
    "彩虹是怎样形成的": "阳光经过空气里的小水滴，被折射成不同的颜色",
    "为什么冬天窗户上有水珠": "屋里的水汽碰到冷玻璃，就变成了小水珠",
    "为什么要刷牙": "牙齿上的细菌会把糖变成酸，酸会伤害牙齿",
}


# ---- how the skills find their examples


def write(slots: Slots, chance: random.Random) -> Examples:
    return [("", f"{OPENINGS[slots['form']]} {TOPICS[slots['topic']]}{RULES[slots['rule']]}")]


def explain(slots: Slots, chance: random.Random) -> Examples:
    return [("", f"{AUDIENCES[slots['whom']]}{REASONS[slots['what']]}{MANNERS[slots['how']]}.")]


def sort(slots: Slots, chance: random.Random) -> Examples:
    lists = [chance.sample(WORDS[slots["things"]], 4) for _ in range(2)]
    return [(f"List: {', '.join(words)}", ", ".join(ORDERS[slots["order"]](words))) for words in lists]


def change(slots: Slots, chance: random.Random) -> Examples:
    return [(f"Sentence: {text}", CHANGES[slots["how"]](text)) for text in chance.sample(SENTENCES, 2)]


def convert(slots: Slots, chance: random.Random) -> Examples:
    amounts = chance.sample(range(2, 90), 3)
    return [(f"Amount: {amount}", f"{amount * RATES[slots['units']]:.1f}") for amount in amounts]


def shop(slots: Slots, chance: random.Random) -> Examples:
    count, price, note = int(slots["count"]), int(slots["price"]), int(slots["note"])
    return [("", f"{count} × {price} = {count * price}, and {note} - {count * price} = {note - count * price} euros.")]


def weekday(slots: Slots, chance: random.Random) -> Examples:
    return [("", WEEKDAYS[(WEEKDAYS.index(slots["day"]) + int(slots["days"])) % 7] + ".")]


def capital(slots: Slots, chance: random.Random) -> Examples:
    return [("", f"{CAPITALS[slots['country']]}. Start at the station and walk to the old town, it is worth the trip.")]


def opposite(slots: Slots, chance: random.Random) -> Examples:
    words = chance.sample(sorted(OPPOSITES), int(slots["count"] == "four") + 3)
    return [(f"Adjectives: {', '.join(words)}", ", ".join(OPPOSITES[word] for word in words))]


def program(slots: Slots, chance: random.Random) -> Examples:
    body = FUNCTIONS[slots["does"]]
    names = [name for name in ("text", "letter", "year", "first", "second", "items", "sentence") if name in body]
    return [("", f"def solve({', '.join(names)}):\n    {body}")]


def invite(slots: Slots, chance: random.Random) -> Examples:
    about = f"I am writing because I would like to {slots['what']}."
    return [("", f"Dear {slots['whom'].split()[-1]},\n{about} Would Monday suit you?")]


def mood(slots: Slots, chance: random.Random) -> Examples:
    good, bad = slots["labels"].split(" or ")
    texts = [(chance.choice(PRAISE), good), (chance.choice(BLAME), bad)]
    return [(f"{slots['kind'].split()[-1].capitalize()}: {text}", label) for text, label in texts]


def test_number(slots: Slots, chance: random.Random) -> Examples:
    holds = PROPERTIES[slots["what"]]
    numbers = [chance.choice([n for n in range(2, 150) if holds(n) == wanted]) for wanted in (True, False)]
    return [(f"Number: {number}", str(holds(number)).lower()) for number in numbers]


def group(slots: Slots, chance: random.Random) -> Examples:
    names = re.findall(r"\w+", slots["groups"].replace(" or ", " "))
    return [(f"Word: {chance.choice(GROUPS[name])}", name) for name in names]


def name(slots: Slots, chance: random.Random) -> Examples:
    return [("", f"{NAMES[slots['what']]}. I like the first one best, because it is easy to remember.")]


def compare(slots: Slots, chance: random.Random) -> Examples:
    return [("", f"{PAIRS[slots['pair']]}{MANNERS[slots['how']]}.")]


def advise(slots: Slots, chance: random.Random) -> Examples:
    return [("", f"{CARE[slots['what']]}.")]


def chinese_list(slots: Slots, chance: random.Random) -> Examples:
    return [("", GOOD_FOR[slots["what"]])]


def chinese_write(slots: Slots, chance: random.Random) -> Examples:
    return [("", CHINESE_FORMS[slots["form"]] + CHINESE_TOPICS[slots["topic"]])]


def chinese_explain(slots: Slots, chance: random.Random) -> Examples:
    return [("", CHINESE_REASONS[slots["what"]] + "。")]


def chinese_sum(slots: Slots, chance: random.Random) -> Examples:
    have, give = (int(number) for number in re.findall(r"\d+", slots["what"]))
    return [("", f"{have} - {give} = {have - give}，还剩{have - give}{slots['what'][-1]}。")]


def chinese_mood(slots: Slots, chance: random.Random) -> Examples:
    good, bad = slots["labels"].split("还是")
    return [(f"{slots['kind']}：东西很好，送得也快。", good), (f"{slots['kind']}：用了一天就坏了，没人管。", bad)]


SKILLS = (
    Skill("Write {form} about {topic}{rule}.", {"form": OPENINGS, "topic": TOPICS, "rule": RULES}, write),
    Skill("Explain {what} to {whom}{how}.", {"what": REASONS, "whom": AUDIENCES, "how": MANNERS}, explain),
    Skill("Put these {things} {order}.", {"things": WORDS, "order": ORDERS}, sort),
    Skill("Write down the sentence again {how}.", {"how": CHANGES}, change),
    Skill("Convert the amount from {units} and round it to one decimal place.", {"units": RATES}, convert),
    Skill(
        "{who} buys {count} {things} for {price} euros each and pays with {note} euros. How much is the change?",
        {
            "who": ("Ida", "My uncle", "The caretaker", "A tourist"),
            "count": ("2", "3", "4"),
            "things": ("candles", "tickets for the ferry", "pots of honey", "second-hand books"),
            "price": ("3", "4", "5"),
            "note": ("20", "50"),
        },
        shop,
    ),
    Skill(
        "If today is {day}, which day of the week is it {days} days from now?",
        {"day": WEEKDAYS, "days": ("5", "10", "45")},
        weekday,
    ),
    Skill(
        "Which city is the capital of {country}, and how should I begin a walk there?", {"country": CAPITALS}, capital
    ),
    Skill("Give the opposite of each of the {count} adjectives.", {"count": ("three", "four")}, opposite),
    Skill("Write a Python function that {does}.", {"does": FUNCTIONS}, program),
    Skill("Suggest three names for {what} and say which of them you like best.", {"what": NAMES}, name),
    Skill("Compare {pair}{how}.", {"pair": PAIRS, "how": MANNERS}, compare),
    Skill("What should I bear in mind when I {what}?", {"what": CARE}, advise),
    Skill("列出{what}的三个好处。", {"what": GOOD_FOR}, chinese_list),
    Skill(
        "Draft an e-mail to {whom} in which you {what}.",
        {
            "whom": ("your landlord", "the head of the choir", "an old friend", "the library"),
            "what": ("ask for an earlier date", "return the keys", "complain about the noise", "put off a visit"),
        },
        invite,
    ),
    Skill(
        "Is the {kind} {labels}?",
        {
            "kind": ("tone of this letter", "opinion in this review", "attitude of this comment"),
            "labels": ("positive or negative", "friendly or unfriendly", "content or annoyed"),
        },
        mood,
        labels=True,
    ),
    Skill("Tell me if the number {what}. Answer true or false.", {"what": PROPERTIES}, test_number, labels=True),
    Skill(
        "Which group does the word belong to: {groups}?",
        {"groups": ("fruit, tool or animal", "vehicle, garment or tool", "animal, vehicle or fruit")},
        group,
        labels=True,
    ),
    Skill("以“{topic}”为题写{form}。", {"topic": CHINESE_TOPICS, "form": CHINESE_FORMS}, chinese_write),
    Skill(
        "请给{whom}讲一讲{what}。", {"what": CHINESE_REASONS, "whom": ("小学生", "外国朋友", "奶奶")}, chinese_explain
    ),
    Skill(
        "{who}有{what}以后，还剩多少？",
        {
            "who": ("小红", "王老师"),
            "what": ("30支铅笔，送给同学6支", "48本故事书，借出去19本", "125张邮票，换给朋友40张"),
        },
        chinese_sum,
    ),
    Skill(
        "这条{kind}的意思是{labels}？",
        {"kind": ("留言", "评价"), "labels": ("满意还是不满意", "表扬还是批评")},
        chinese_mood,
        labels=True,
    ),
)

UNFIT = (
    "Draw a picture of a harbour at night with three boats.",
    "Plot the temperatures of the week as a graph.",
    "Write a program that sorts a list of numbers.",
    "Sing it again.",
    "",
    "- and then tell me what the result means",
    "Écris une courte histoire sur un chat noir.",
    "画一张小猫在窗台上睡觉的图片。",
    "Describe, " + "and then describe once more, " * 40 + "what you see.",
)
NONSENSE = ("As an AI I do not have tasks.", "banana banana banana", "对不起，我没有听懂。")


class StandIn:
    """A model made of rules, which reads only the prompt, and has the faults that are switched on; see above.

    Args:
        faults: of `FAULTS`.

    Raises:
        ValueError: a fault has no such name.
    """

    name = "stand-in"

    def __init__(self, faults: Collection[str] = FAULTS) -> None:
        if unknown := set(faults) - set(FAULTS):
            raise ValueError(f"faults are {', '.join(FAULTS)}, got {', '.join(sorted(unknown))}")
        self.faults = frozenset(faults)
        self.identity: dict[str, Any] = {"kind": "rules", "model": self.name, "faults": sorted(self.faults)}

    def __call__(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        """Return a reply to one of Self-Instruct's questions."""
        prompt = check_messages(messages)[-1]["content"]
        chance = random.Random(prompt)
        if prompt.startswith("Come up with a series of tasks:"):
            return self._tasks(prompt, chance)
        instruction = prompt.rpartition("Task: ")[2].partition("\n")[0].strip()
        if prompt.endswith("Is it classification?"):
            return Reply(self._kind(instruction, chance))
        if "\nTask: " in prompt:
            labelled = prompt.startswith("Given the classification task definition")
            return self._examples(instruction, labelled, chance)
        return Reply("I do not understand what I shall do.")

    def _has(self, fault: str, chance: random.Random, share: float) -> bool:
        return fault in self.faults and chance.random() < share

    def _tasks(self, prompt: str, chance: random.Random) -> Reply:
        """Return seven more tasks as a list, or a few more than that."""
        if self._has("nonsense", chance, 0.1):
            return Reply(chance.choice(NONSENSE))
        shown = re.findall(r"^\d+\. (.+)$", prompt, re.MULTILINE)
        more = 4 if self._has("endless", chance, 0.1) else 0
        tasks = [self._task(shown, chance) for _ in range(len(NEW) + more)]
        text = self._numbered(tasks, chance)
        if self._has("cut", chance, 0.15):
            return Reply(text[: int(len(text) * chance.uniform(0.4, 0.9))], "length")
        return Reply(text)

    def _task(self, shown: Sequence[str], chance: random.Random) -> str:
        if self._has("copies", chance, 0.1):
            copied = chance.choice(list(shown))
            return copied + ("。" if copied[-1] > "\u4e00" else " Take your time.") if len(copied) > 40 else copied
        if self._has("unfit", chance, 0.15):
            return chance.choice(UNFIT)
        return chance.choice(SKILLS).invent(chance)

    def _numbered(self, tasks: Sequence[str], chance: random.Random) -> str:
        form, first = "{}. ", NEW.start
        if self._has("markdown", chance, 0.5):
            form = chance.choice(["{}. ", "{}) ", "**{}.** ", "{}、", "- ", "### Task {}: "])
            first = chance.choice([NEW.start, 1])
        lines = [form.format(number) + task for number, task in enumerate(tasks, start=first)]
        if self._has("chatty", chance, 0.3):
            return "\n".join(["Sure! Here are more tasks:", "", *lines, "", "Let me know if you would like more!"])
        lines[0] = lines[0] if form != "{}. " or first == 1 else f" {tasks[0]}"  # the prompt wrote "9." itself
        return "\n".join(lines)

    def _kind(self, instruction: str, chance: random.Random) -> str:
        """Return whether a task is classification."""
        known = recognise(instruction)
        labels = (
            known[0].labels
            if known
            else bool(re.search(r"\b(?:whether|which of|yes or no)\b|判断|哪一类", instruction))
        )
        if self._has("sloppy", chance, 0.05):
            labels = not labels
        return "Yes" if labels else "No"

    def _examples(self, instruction: str, labelled: bool, chance: random.Random) -> Reply:
        """Return examples of a task, in one of the two orders."""
        if self._has("nonsense", chance, 0.05):
            return Reply(chance.choice(NONSENSE))
        known = recognise(instruction)
        examples = known[0].solve(known[1], chance) if known else [("", "I would begin with the most important part.")]
        if "sloppy" in self.faults:
            examples = spoiled(examples, chance)
        if labelled:
            return Reply("\n".join(f"Class label: {label}\n{given}".strip() for given, label in examples))
        if not any(given for given, _ in examples):
            return Reply(f"Output: {examples[0][1]}")
        mark = "**Example {}**" if self._has("markdown", chance, 0.3) else "Example {}"
        pieces = [
            f"{mark.format(number)}\n{given}\nOutput: {wanted}"
            for number, (given, wanted) in enumerate(examples, start=1)
        ]
        text = "\n".join(pieces)
        return Reply(text[:-3], "length") if self._has("cut", chance, 0.1) else Reply(text)


def recognise(instruction: str) -> tuple[Skill, dict[str, str]] | None:
    """Return the skill that an instruction asks for, and what stands in its blanks."""
    for skill in SKILLS:
        slots = skill.recognise(instruction)
        if slots is not None:
            return skill, slots
    return None


def spoiled(examples: Examples, chance: random.Random) -> Examples:
    """Return examples as a careless model gives them: one time in three with one that is none."""
    if chance.random() > 1 / 3:
        return examples
    given, wanted = chance.choice(examples)
    return [*examples, (given, chance.choice([wanted, f"not {wanted}", "", given, "As follows:"]))]
