import re
from collections import Counter

import pytest

from gptlab.building.corpus_templates import (
    apply_templates,
    hold_out_templates,
    language_of,
    load_templates,
)
from gptlab.building.pairs import reversed_pair
from gptlab.building.tiny_corpus import tiny_corpus
from gptlab.data import InstructionDataset

PUBLISHED = [  # by source 002
    "Translate this sentence from the [src_lang] to [tgt_lang]: [input]",
    "How to speak [input] in [tgt_lang]? The answer is:",
    "The [tgt_lang] translation of this sentence is: [input]",
]
PAIR = {"id": "a7", "source": "the cat", "target": "猫", "src_lang": "English", "tgt_lang": "Chinese"}
QUESTION = {"question": "What is 2 + 2?", "answer": "4", "topic": "sums"}


def one(template, layout="inside", **changes):
    [entry] = apply_templates([PAIR | changes], [template], layout=layout, both_directions=False)
    return entry


def test_both_directions_by_hand():
    assert apply_templates([PAIR], PUBLISHED[:1], layout="inside") == [
        {
            "instruction": "Translate this sentence from the English to Chinese: the cat",
            "input": "",
            "output": "猫",
            "pair": "a7",
            "template": PUBLISHED[0],
            "src_lang": "English",
            "tgt_lang": "Chinese",
        },
        {
            "instruction": "Translate this sentence from the Chinese to English: 猫",
            "input": "",
            "output": "the cat",
            "pair": "a7",
            "template": PUBLISHED[0],
            "src_lang": "Chinese",
            "tgt_lang": "English",
        },
    ]


def test_the_inverse_pattern_finds_the_pair_again():
    pairs, templates = tiny_corpus(60), load_templates()
    by_id = {pair["id"]: pair for pair in pairs}
    entries = apply_templates(pairs, templates, per_pair=3, layout="inside", names={})
    assert len(entries) == len(pairs) * 3 * 2
    for entry in entries:
        parts = re.split(r"\[(\w+)\]", entry["template"])
        pattern = "".join(f"(?P<{part}>.+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
        found = re.fullmatch(pattern, entry["instruction"]).groupdict()
        pair = by_id[entry["pair"]]
        pair = pair if entry["src_lang"] == "English" else reversed_pair(pair)
        assert found["input"] == pair["source"] and entry["output"] == pair["target"]
        assert found["tgt_lang"] == pair["tgt_lang"]
    used = Counter((entry["pair"], entry["src_lang"], entry["template"]) for entry in entries)
    assert set(used.values()) == {1}  # a pair has no template twice


def test_what_looks_like_a_placeholder_in_the_data_is_data():
    tricky = r"[tgt_lang] means \1 {input} [input] %s"
    assert one(PUBLISHED[1], source=tricky)["instruction"] == f"How to speak {tricky} in Chinese? The answer is:"
    assert one(PUBLISHED[0], "field", source=tricky)["input"] == tricky
    assert one(PUBLISHED[1], src_lang="[input]", tgt_lang="[input]")["instruction"].count("[input]") == 1


@pytest.mark.parametrize(
    ("template", "instruction"),
    [
        (PUBLISHED[0], "Translate this sentence from the English to Chinese:"),
        (PUBLISHED[1], "How to speak this sentence in Chinese? The answer is:"),
        ("Provide the [tgt_lang] translation for [input].", "Provide the Chinese translation for this sentence."),
        ("Could you put this into [tgt_lang]? [input]", "Could you put this into Chinese?"),
        ("I need the [tgt_lang] of the sentence “[input]”, please.", "I need the Chinese of the sentence, please."),
        ("Translate to [tgt_lang] [input]", "Translate to Chinese this sentence"),
        ("“[input]”用[tgt_lang]怎么说？", "这句话用中文怎么说？"),
        ("请把下面的[src_lang]译成[tgt_lang]：[input]", "请把下面的英语译成中文："),
    ],
)
def test_an_input_in_its_own_field(template, instruction):
    entry = one(template, "field")
    assert (entry["instruction"], entry["input"]) == (instruction, "the cat")


def test_no_shipped_template_leaves_anything_behind():
    templates = load_templates()
    entries = apply_templates(tiny_corpus(5), templates, per_pair=len(templates), layout="field")
    for entry in entries:
        assert not re.search(r"""[\[\]"“”]|  |[:：?？]\S*[:：]$""", entry["instruction"])
        assert entry["input"] not in entry["instruction"]
        if language_of(entry["template"]) == "zh":
            assert not re.search("[A-Za-z]", entry["instruction"])


def test_mixed_layouts_are_about_half_and_half():
    pairs = tiny_corpus(300)
    entries = apply_templates(pairs, PUBLISHED, seed=1)
    assert entries == apply_templates(pairs, PUBLISHED, seed=1) != apply_templates(pairs, PUBLISHED, seed=2)
    assert 250 < sum(bool(entry["input"]) for entry in entries) < 350
    assert set(Counter(entry["template"] for entry in entries).values()) <= set(range(150, 250))


def test_any_table_is_a_corpus(tokenizer):
    options = {"source": "question", "target": "answer", "both_directions": False}
    [entry] = apply_templates([QUESTION], ["About [topic]: [question]"], layout="inside", **options)
    assert entry["instruction"] == "About sums: What is 2 + 2?"
    assert (entry["output"], entry["topic"], entry["pair"]) == ("4", "sums", 1)
    apart = {**options, "layout": "field", "stand_in": {"en": "this question", "zh": "这个问题"}}
    [entry] = apply_templates([QUESTION], ["Answer [question] briefly."], **apart)
    assert (entry["instruction"], entry["input"]) == ("Answer this question briefly.", "What is 2 + 2?")
    assert len(InstructionDataset([entry], tokenizer)) == 1


def test_languages_have_names_of_their_own_in_each_template():
    assert one("用[tgt_lang]说：[input]", tgt_lang="Esperanto")["instruction"] == "用Esperanto说：the cat"
    names = {"eo": {"en": "Esperanto", "zh": "世界语"}}
    both = apply_templates(
        [PAIR | {"tgt_lang": "eo"}],
        ["In [tgt_lang]: [input]", "用[tgt_lang]说：[input]"],
        per_pair=2,
        names=names,
        layout="inside",
    )[:2]
    assert {entry["instruction"] for entry in both} == {"In Esperanto: the cat", "用世界语说：the cat"}
    assert {entry["tgt_lang"] for entry in both} == {"eo"}


def test_templates_held_out():
    templates = load_templates()
    kept, held_out = hold_out_templates(templates, 4, seed=3)
    assert len(held_out) == 4 and [t for t in templates if t in kept or t in held_out] == templates
    assert not set(kept) & set(held_out)
    for count in (0, len(templates)):
        with pytest.raises(ValueError, match=f"got {count}"):
            hold_out_templates(templates, count)


def test_files_of_templates(tmp_path):
    text, listed = tmp_path / "t.txt", tmp_path / "t.json"
    text.write_bytes("\ufeff# ours\n\nSay [input].  \r\n翻译：[input]\n".encode())
    listed.write_text('["Say [input].", "翻译：[input]"]', encoding="utf-8")
    assert load_templates(text) == load_templates(listed) == ["Say [input].", "翻译：[input]"]
    for content, message in {
        "# nothing": "holds no templates",
        "Say [input].\nSay [input].": "templates 1 and 2 are the same: 'Say",
    }.items():
        text.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=f"t.txt.*{message}"):
            load_templates(text)
    listed.write_text('["Say [input].", 3]', encoding="utf-8")
    with pytest.raises(ValueError, match="none of them empty, got 3"):
        load_templates(listed)
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        load_templates(tmp_path / "none.txt")


BAD_TEMPLATES = {
    "Translate into [tgt_lang].": r"template 1, .*: it lacks \[input\]",
    "Say [input] in [language].": r"\[language\] is not known; allowed are \[id\], \[input\], \[src_lang\], \[t",
    "[input] is [target]": r"\[target\] would give the answer away",
    "Say [input] \ud800": "surrogate",
    " ": "none of them empty, got ' '",
}


@pytest.mark.parametrize(("template", "message"), BAD_TEMPLATES.items())
def test_templates_that_cannot_be_used(template, message):
    with pytest.raises(ValueError, match=message):
        apply_templates([PAIR], [template])


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        ([PAIR], {"per_pair": 4}, r"per_pair must be in \[1, 3\], the number of templates, got 4"),
        ([PAIR], {"per_pair": 0}, "got 0"),
        ([PAIR], {"layout": "apart"}, "layout must be 'mixed', 'inside' or 'field', got 'apart'"),
        ([PAIR, PAIR | {"target": " "}], {}, "pair 2: 'target' is empty"),
        ([PAIR | {"source": 3}], {}, "pair 1: 'source' must be text, got 3"),
        ([{"source": "a"}], {}, r"pair 1 has no 'target'; its keys are \['source'\]"),
        ([PAIR, PAIR | {"id": 2, "source": "the  cat"}], {}, "pairs 1 and 2 are the same: 'the  cat'"),
        ([PAIR, reversed_pair(PAIR)], {}, "pairs 1 and 2 are the same"),
        ([{"source": "a", "target": "b"}], {}, "pair 1 has no 'src_lang' and 'tgt_lang'.*both_directions=False"),
        ([], {}, "there are no pairs"),
        ([PAIR | {"input": "x"}], {}, "pair 1 has a column 'input'"),
        (
            [PAIR, PAIR | {"id": 2, "source": "dog", "src_lang": None}],
            {},
            r"\[src_lang\] must be text in every pair, pair 2 has None",
        ),
    ],
)
def test_pairs_and_settings_that_cannot_be_used(pairs, options, message):
    with pytest.raises(ValueError, match=message):
        apply_templates(pairs, PUBLISHED, **options)


def test_one_text_is_no_list_of_templates():
    with pytest.raises(ValueError, match="must be a list of texts"):
        apply_templates([PAIR], PUBLISHED[0])
    with pytest.raises(ValueError, match="templates 1 and 2 are the same"):
        apply_templates([PAIR], [PUBLISHED[0]] * 2)
    with pytest.raises(ValueError, match=r"\[1, 0\]"):
        apply_templates([PAIR], [])
    with pytest.raises(ValueError, match=r"template 1, .*: \[topic\] must be text in every pair, pair a7 has None"):
        apply_templates([PAIR | {"topic": "x"}, PAIR | {"source": "b"}], ["On [topic]: [input]"])
