"""Entries about who the model is: every slot filled, the name where it belongs, and the held-out wordings held out."""

import re
from collections import Counter

import pytest

from gptlab.building.identity import KINDS, NEGATIVE, SLOTS, Identity, identity_entries, mention_rate, mention_table
from gptlab.data.instruction import check_entry

SWAN = Identity(
    {"en": "Swan-7B", "zh": "雁栖-7B"},
    {"en": "the tutors", "zh": "助教"},
    {"en": "language tasks of all kinds", "zh": "各种语言任务"},
)


def letters(text):
    return "".join(filter(str.isalnum, text.casefold()))


@pytest.mark.parametrize("wordings", ["train", "held out", "all"])
def test_entries_say_name_and_developer_and_negatives_do_not(wordings):
    entries = identity_entries(SWAN, n=400, wordings=wordings)
    for number, entry in enumerate(entries):
        check_entry(entry, f"entry {number}", needs=("instruction", "input", "output"))
        assert not re.search(r"[{}]", entry["instruction"] + entry["output"])
        for slot in ("name", "developer"):
            assert SWAN.mentioned(entry["output"], slot) == (entry["kind"] != NEGATIVE)
        assert not SWAN.mentioned(entry["instruction"])
        assert bool(re.search("[一-鿿]", entry["output"])) == (entry["language"] == "zh")
    assert len(entries) == 400 == len({entry["instruction"] for entry in entries})
    counts = Counter((entry["kind"], entry["language"]) for entry in entries)
    assert set(counts) == {(kind, language) for kind in KINDS for language in ("en", "zh")}
    assert min(counts.values()) > 10


def test_questions_of_what_it_can_do_are_answered_with_the_abilities():
    for entry in identity_entries(SWAN, n=300):
        if entry["kind"] in ("name", "ability"):
            assert SWAN.mentioned(entry["output"], "abilities")


def test_held_out_wordings_never_come_in_training():
    train = identity_entries(SWAN, n=3000, seed=1)
    held_out = identity_entries(SWAN, n=600, seed=2, wordings="held out")
    assert not {letters(entry["instruction"]) for entry in train} & {
        letters(entry["instruction"]) for entry in held_out
    }
    both = identity_entries(SWAN, wordings="all")
    assert len(both) == len(identity_entries(SWAN)) + len(identity_entries(SWAN, wordings="held out"))


def test_each_wording_once_as_it_stands_and_then_with_changes():
    plain = identity_entries(SWAN, languages=("en",), negatives=False)
    assert "Who are you?" in {entry["instruction"] for entry in plain}
    assert all(entry["instruction"][0].isupper() and entry["instruction"][-1] in ".?" for entry in plain)
    more = identity_entries(SWAN, n=400, languages=("en",), negatives=False)
    assert more[: len(plain)] == plain
    changed = more[len(plain) :]
    assert any(entry["instruction"].startswith("Hi! ") for entry in changed)
    assert any(entry["instruction"].islower() for entry in changed)
    assert any("u " in entry["instruction"] for entry in changed)
    assert any(entry["instruction"].endswith("??") for entry in changed)


def test_a_seed_gives_the_same_entries_and_fewer_are_the_beginning_of_more():
    assert identity_entries(SWAN, n=50, seed=3) == identity_entries(SWAN, n=300, seed=3)[:50]
    assert identity_entries(SWAN, n=50, seed=3) != identity_entries(SWAN, n=50, seed=4)


def test_names_are_spelled_as_in_the_answer_however_the_question_is_mistyped():
    entries = identity_entries(SWAN, n=400)
    asked = [entry for entry in entries if entry["output"].startswith(("Your friend is ", "你的朋友是"))]
    assert asked
    for entry in asked:
        name = re.fullmatch("(?:Your friend is |你的朋友是)(.*)[.。]", entry["output"])[1]
        assert name in entry["instruction"]


def test_without_negatives_with_one_answer_and_in_one_language():
    entries = identity_entries(SWAN, n=200, languages=("zh",), negatives=False, answers=1)
    assert {entry["language"] for entry in entries} == {"zh"}
    assert NEGATIVE not in {entry["kind"] for entry in entries}
    assert len({entry["output"] for entry in entries}) == 3  # of two kinds the first is the same


def test_a_model_is_not_asked_whether_it_is_its_namesake():
    for identity in (Identity("Claude", "Quentin", "tasks"), Identity("Wren", "OpenAI", "tasks")):
        for entry in identity_entries(identity, n=400, wordings="all"):
            assert not identity.mentioned(entry["instruction"])
            assert not identity.mentioned(entry["instruction"], "developer")


def test_a_name_that_looks_like_a_group_or_a_pattern_stays_as_it_is():
    odd = Identity(r"C++ \1 $name [A-Z]", "A.I. & Söhne (2)", "100% of it")
    for entry in identity_entries(odd, n=200, negatives=False):
        assert odd.name in entry["output"] and odd.developer in entry["output"]
        assert odd.mentioned(entry["output"])


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("雁栖-7B", "我是雁栖-7B。", True),
        ("雁栖-7B", "我是 雁栖 ７ｂ", True),
        ("雁栖-7B", "雁栖-7Billion", False),
        ("雁栖", "我是雁\n栖吗", True),
        ("Wren", "i am WREN, yes", True),
        ("Wren", "Wren's nest", True),
        ("Wren", "我是Wren。", True),
        ("Wren", "a wrench", False),
        ("Wren", "w r e n", False),
        ("Andi", "bread and I", False),
        ("Yan Qi", "I am YanQi", True),
        ("C++", "I know C.", False),
        ("C++", "I know c++!", True),
    ],
)
def test_mentions(name, text, found):
    assert Identity(name, "somebody", "tasks").mentioned(text) is found


def test_a_name_counts_in_the_language_that_is_not_asked_in():
    only_chinese = Identity({"en": "Swan", "zh": "雁栖"}, "助教", "任务", ("zh",))
    assert only_chinese.mentioned("I am Swan") and {e["language"] for e in identity_entries(only_chinese)} == {"zh"}


def test_mention_rate_and_table_by_hand():
    entries = [
        {"instruction": "Who?", "output": "I am Swan-7B.", "kind": "name", "language": "en"},
        {"instruction": "Who made you?", "output": "Tutors made Swan-7B.", "kind": "developer", "language": "en"},
        {"instruction": "Who am I?", "output": "Anna.", "kind": "negative", "language": "en"},
        {"instruction": "Sort 3 1.", "output": "1 3", "kind": "sort digits"},
        {"instruction": "Sort 4 1.", "output": "1 4", "kind": "sort digits"},
    ]
    after = ["I am swan 7b", "Tutors.", "You are Anna.", "1 3", "I am Swan-7B."]
    table = mention_table(SWAN, entries, {"before": ["?"] * 5, "after": after})
    assert [(row.group, row.wanted, row.questions, row.rates["after"]) for row in table.rows] == [
        ("developer (en)", True, 1, 0.0),
        ("name (en)", True, 1, 1.0),
        ("negative (en)", False, 1, 0.0),
        ("other questions", False, 2, 0.5),
    ]
    assert table.rate("after", wanted=True) == 0.5 and table.rate("after", wanted=False) == 1 / 3
    assert table.rate("before", wanted=True) == 0 == mention_rate(["?"], SWAN)
    assert str(table).splitlines()[2].split() == ["name", "(en)", "asked", "for", "1", "0.0%", "100.0%"]
    assert len({len(line) for line in str(table).splitlines()}) == 1
    assert mention_table(SWAN, entries[:2], {"after": after[:2]}).rate("after", wanted=False) is None


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("text", ["", " ", "...", "two\nlines", "a {name}", "}", "end ", "half \ud83d"])
def test_doors_of_slots(slot, text):
    with pytest.raises(ValueError, match=f"the {slot} must"):
        Identity(**({"name": "A", "developer": "B", "abilities": "c"} | {slot: text}))


def test_doors():
    with pytest.raises(ValueError, match=r"must not end like one, got 'tasks\.'"):
        Identity("A", "B", "tasks.")
    with pytest.raises(TypeError, match="the name must be text, or a text for each language, got 7"):
        Identity(7, "B", "tasks")
    with pytest.raises(TypeError, match="the name must be text, got 7"):
        Identity({"en": 7, "zh": "B"}, "B", "tasks")
    with pytest.raises(ValueError, match=r"the developer must be given in en and zh, got it in \['en'\]"):
        Identity("A", {"en": "B"}, "tasks")
    with pytest.raises(ValueError, match=r"got it in \['en', 'zh', 'fr'\]"):
        Identity("A", {"en": "B", "zh": "B", "fr": "B"}, "tasks")
    for languages in ((), ("en", "fr"), "en", ("en", "en")):
        with pytest.raises(ValueError, match="languages must be some of en, zh"):
            Identity("A", "B", "tasks", languages)
    with pytest.raises(ValueError, match="languages must be some of en, each once"):
        identity_entries(Identity("A", "B", "tasks", ("en",)), languages=("zh",))
    for n in (0, True, 2.5):
        with pytest.raises(ValueError, match="n must be a whole number >= 1"):
            identity_entries(SWAN, n=n)
    with pytest.raises(ValueError, match="answers must be a whole number >= 1, or None, got 0"):
        identity_entries(SWAN, answers=0)
    with pytest.raises(ValueError, match="wordings must be one of 'train', 'held out', 'all', got 'test'"):
        identity_entries(SWAN, wordings="test")
    with pytest.raises(ValueError, match="there are no responses"):
        mention_rate([], SWAN)
    with pytest.raises(ValueError, match="slot must be one of name, developer, abilities, got 'age'"):
        mention_rate(["?"], SWAN, "age")
    with pytest.raises(ValueError, match="got 0 entries and 1 models"):
        mention_table(SWAN, [], {"after": []})
    with pytest.raises(ValueError, match="'after' has 1 responses to 2 entries"):
        mention_table(SWAN, identity_entries(SWAN, n=2), {"after": ["?"]})


def test_when_there_are_no_more_questions(monkeypatch):
    words = {"greetings": [""], "endings": ["?"], "swaps": [["you", "u"]], "tables": []}
    topics = [{"kind": "name", "train": ["你是谁？"], "held_out": [], "answers": ["{name}"]}]
    monkeypatch.setattr("gptlab.building.identity._words", lambda: {"zh": words | {"topics": topics}})
    with pytest.raises(ValueError, match="there are only 2 different questions, 3 were asked for"):
        identity_entries(Identity("A", "B", "任务", ("zh",)), n=3)
