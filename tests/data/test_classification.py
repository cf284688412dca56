import csv
import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptlab.data import (
    IGNORE_INDEX,
    LabelledExample,
    LabelledTexts,
    balance,
    collate_labelled,
    load_labelled,
    split_in_three,
)
from gptlab.tokenizer import END_OF_TEXT

ENTRIES = [
    {"text": 'good, "really" good', "label": "positive"},
    {"text": "two\nlines", "label": "negative"},
    {"text": "很好", "label": "positive"},
]


# --- files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_kind_of_file_gives_the_same_entries(tmp_path, encoding):
    with (tmp_path / "a.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, ["label", "text"])
        writer.writeheader()
        writer.writerows(ENTRIES)
    (tmp_path / "a.json").write_text(json.dumps(ENTRIES), encoding=encoding)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(entry) for entry in ENTRIES), encoding=encoding)
    for name in ("a.csv", "a.json", "a.jsonl"):
        assert load_labelled(tmp_path / name) == ENTRIES


def test_a_tsv_has_one_text_a_line_whatever_its_quotation_marks(tmp_path):
    """As the SMS spam collection has it, in which some messages open a quotation and never close it."""
    (tmp_path / "a.tsv").write_text('ham\t"Hello, she said\n\nspam \tWIN "now"\n', encoding="utf-8")
    assert load_labelled(tmp_path / "a.tsv", text="Text", label="Label", columns=["Label", "Text"]) == [
        {"text": '"Hello, she said', "label": "ham"},
        {"text": 'WIN "now"', "label": "spam"},
    ]


def test_other_columns_are_left_aside_and_numbers_become_text(tmp_path):
    (tmp_path / "a.json").write_text('[{"review": "good", "stars": 5, "town": "Fenn"}]', encoding="utf-8")
    assert load_labelled(tmp_path / "a.json", text="review", label="stars") == [{"text": "good", "label": "5"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv holds no texts"),
        ("a.csv", "text,label\n", "a.csv holds no texts"),
        ("a.csv", "text,class\na,b\n", r"a.csv has no column 'label'; its columns are \['text', 'class'\]"),
        ("a.csv", "text,label\ngood,x\ngood, not bad,x\n", "a.csv, line 3 has 3 fields for 2 columns"),
        ("a.csv", "text,label\ngood\n", "a.csv, line 2 has 1 fields for 2 columns"),
        ("a.csv", 'text,label\ngood,x\n"good,x\n', "a.csv, line 3: unexpected end of data"),
        ("a.csv", "text,label\ngood,x\n,x\n", "a.csv, line 3: the text must not be empty, got ''"),
        ("a.csv", "text,label\ngood, \n", "a.csv, line 2: the label must be a word or a whole number, got ' '"),
        ("a.json", '[{"text": "good"}]', r"a.json: entry 1 has no 'label'; its keys are \['text'\]"),
        ("a.json", '[{"text": "good", "label": 0.5}]', "a.json: entry 1: the label must be .*, got 0.5"),
        ("a.json", '[{"text": "good", "label": true}]', "entry 1: the label must be .*, got True"),
        ("a.json", '[{"text": null, "label": 1}]', "entry 1: the text must not be empty, got None"),
        ("a.json", '[{"text": "\\ud800", "label": 1}]', "entry 1: .*half of a surrogate pair"),
        ("a.json", "[]", "a.json holds no entries"),
        ("a.txt", "good", "a.txt must end in .csv, .tsv, .json or .jsonl"),
    ],
)
def test_files_that_are_wrong(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_labelled(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        load_labelled(tmp_path / "nowhere.csv")


# --- balancing and splitting


def test_balance_takes_as_many_of_each_as_the_rarest_has():
    items = [(f"text {number}", "rare" if number % 10 == 0 else "often") for number in range(100)]
    kept = balance(items, seed=3)
    assert Counter(label for _, label in kept) == {"rare": 10, "often": 10}
    assert [item for item in items if item in kept] == kept  # in their order
    assert balance(items, seed=3) == kept != balance(items, seed=4)
    entries = [{"text": text, "label": label} for text, label in items]
    assert balance(entries, seed=3) == [{"text": text, "label": label} for text, label in kept]
    with pytest.raises(ValueError, match="no entries to balance"):
        balance([])
    with pytest.raises(ValueError, match="entry 2 must have a text and a label, got 'b'"):
        balance([("a", "x"), "b"])


def test_three_parts_hold_every_item_once():
    items = [(f"text {number}", "x") for number in range(50)]
    parts = split_in_three(items, validation=0.1, test=0.2, seed=1)
    assert [len(part) for part in parts] == [35, 5, 10]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(items)
    assert split_in_three(items, seed=1) == parts
    assert split_in_three(items, seed=2) != parts


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.0, 0.2), (0.2, 1.0), (-0.1, 0.2)])
def test_shares_that_are_none(validation, test):
    with pytest.raises(ValueError, match=f"leave something for training, got {validation} and {test}"):
        split_in_three(list(range(10)), validation, test)


def test_no_part_is_empty():
    with pytest.raises(ValueError, match="splits 5 entries into 5 and 0"):
        split_in_three(list(range(5)), 0.2, 0.05)
    with pytest.raises(ValueError, match="splits 4 entries into 4 and 0"):
        split_in_three(list(range(5)), 0.05, 0.2)


# --- the data set


def test_texts_become_ids_and_labels_numbers(tokenizer):
    dataset = LabelledTexts([("The mill", "quiet"), {"text": "The market", "label": "loud"}], tokenizer)
    assert dataset.label_names == ["loud", "quiet"]
    assert dataset[0] == LabelledExample(tokenizer.encode("The mill"), 1)
    assert dataset[1] == LabelledExample(tokenizer.encode("The market"), 0)
    assert (len(dataset), dataset.cut) == (2, [])


def test_numbers_keep_their_order(tokenizer):
    dataset = LabelledTexts([("a", 10), ("a", 9), ("a", "none"), ("a", 0)], tokenizer)
    assert dataset.label_names == ["0", "9", "10", "none"]


def test_other_sets_take_the_names_of_the_training_set(tokenizer):
    """Found anew where a label is missing, they would be other numbers."""
    names = LabelledTexts([("a", "x"), ("a", "y"), ("a", "z")], tokenizer).label_names
    assert [example.label for example in LabelledTexts([("a", "z"), ("a", "y")], tokenizer, names)] == [2, 1]
    with pytest.raises(ValueError, match=r"entry 2 has the label 'w'; the labels are \['x', 'y', 'z'\]"):
        LabelledTexts([("a", "z"), ("a", "w")], tokenizer, names)


def test_special_tokens_that_somebody_typed_stay_text(tokenizer):
    [example] = LabelledTexts([(END_OF_TEXT, "x")], tokenizer)
    assert tokenizer.eot_token not in example.ids
    assert tokenizer.decode(example.ids) == END_OF_TEXT


def test_texts_beyond_the_context(tokenizer):
    items = [("Fenn", "x"), ("The home of Lumika is in Fenn", "y"), ("The mill", "x")]
    length = len(tokenizer.encode(items[1][0]))
    with pytest.raises(ValueError, match=f"text 2 has {length} tokens, there is room for 4"):
        LabelledTexts(items, tokenizer, context_length=4)
    dataset = LabelledTexts(items, tokenizer, context_length=4, too_long="cut")
    assert dataset.cut == [(2, length)]
    assert dataset[1].ids == tokenizer.encode(items[1][0])[:4]
    assert LabelledTexts(items, tokenizer, context_length=length).cut == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "there are no labelled texts"),
        ([("a", "x"), ("", "x")], "entry 2: the text must not be empty"),
        ([{"text": "a"}], "entry 1 has no 'label'"),
        (["ab"], "entry 1 must have a text and a label, got 'ab'"),
    ],
)
def test_items_that_are_none(tokenizer, items, message):
    with pytest.raises(ValueError, match=message):
        LabelledTexts(items, tokenizer)


def test_a_wrong_word_for_too_long(tokenizer):
    with pytest.raises(ValueError, match="must be 'raise' or 'cut', got 'drop'"):
        LabelledTexts([("a", "x")], tokenizer, too_long="drop")


# --- batches


def test_the_answer_stands_behind_the_text_or_at_the_end():
    examples = [LabelledExample([5, 6], 2), LabelledExample([7, 8, 9], 0)]
    inputs, targets = collate_labelled(examples, pad_id=1, length=4)
    assert inputs.tolist() == [[5, 6, 1, 1], [7, 8, 9, 1]]
    assert targets.tolist() == [[-100, 2, -100, -100], [-100, -100, 0, -100]]
    same_inputs, targets = collate_labelled(examples, pad_id=1, length=4, position="last")
    assert same_inputs.equal(inputs)
    assert targets.tolist() == [[-100, -100, -100, 2], [-100, -100, -100, 0]]
    assert inputs.dtype == targets.dtype == torch.int64


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 3)), min_size=1))
def test_every_row_has_its_class_once_and_its_text_first(pairs):
    examples = [LabelledExample(*pair) for pair in pairs]
    for position in ("last_real", "last"):
        inputs, targets = collate_labelled(examples, pad_id=7, position=position)
        assert inputs.shape == targets.shape == (len(examples), max(len(ids) for ids, _ in pairs))
        assert ((targets != IGNORE_INDEX).sum(dim=1) == 1).all()
        assert targets[targets != IGNORE_INDEX].tolist() == [label for _, label in pairs]
        assert [row[: len(ids)] for row, (ids, _) in zip(inputs.tolist(), pairs)] == [ids for ids, _ in pairs]


@pytest.mark.parametrize(
    ("examples", "options", "message"),
    [
        ([], {}, "got none"),
        ([LabelledExample([1], 0), LabelledExample([], 0)], {}, "hold examples of 1 to 1 tokens, got 0 to 1"),
        ([LabelledExample([1, 2, 3], 0)], {"length": 2}, "rows of 2 hold examples of 1 to 2 tokens, got 3 to 3"),
        ([LabelledExample([1], 0)], {"position": "first"}, "must be 'last_real' or 'last', got 'first'"),
    ],
)
def test_wrong_batches(examples, options, message):
    with pytest.raises(ValueError, match=message):
        collate_labelled(examples, pad_id=0, **options)
