import json

import pytest

from gptlab.building.corpus_templates import apply_templates
from gptlab.building.pairs import load_pairs, split_pairs, unique_pairs
from gptlab.building.tiny_corpus import tiny_corpus

CAT = {"source": "the cat", "target": "猫"}
LANGUAGES = {"src_lang": "English", "tgt_lang": "Chinese"}


def test_the_same_pairs_from_every_kind_of_file(tmp_path):
    rows = [CAT, {"source": 'he said: "hm, yes"', "target": "“嗯，是”"}]
    contents = {
        "a.tsv": 'source\ttarget\nthe cat\t猫\n\nhe said: "hm, yes"\t“嗯，是”\n',
        "a.csv": 'source,target\nthe cat,猫\n"he said: ""hm, yes""",“嗯，是”\n',
        "a.json": json.dumps(rows),
        "a.jsonl": "\n".join(map(json.dumps, rows)),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        pairs = load_pairs(tmp_path / name, **LANGUAGES)
        assert pairs == [{"id": n, **LANGUAGES, **row} for n, row in enumerate(rows, start=1)]


def test_a_table_without_names_and_with_labels(tmp_path):
    table, labelled = tmp_path / "t.tsv", tmp_path / "l.jsonl"
    table.write_text("Hi.\t你好。\tby ann\n", encoding="utf-8")
    [pair] = load_pairs(table, columns=["source", "target", "id"])
    assert pair == {"source": "Hi.", "target": "你好。", "id": "by ann"}
    labelled.write_text('{"text": "good", "label": 1}', encoding="utf-8")
    assert load_pairs(labelled, source="text", target="label")[0]["label"] == "1"


def test_rows_that_are_no_pairs_can_be_left_out_by_name(tmp_path):
    path, left_out = tmp_path / "a.tsv", []
    path.write_text("source\ttarget\na\t\nb\tc\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.tsv, line 2: 'target' is empty"):
        load_pairs(path)
    assert [pair["source"] for pair in load_pairs(path, left_out=left_out)] == ["b"]
    assert left_out == [(f"{path}, line 2", f"{path}, line 2: 'target' is empty")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "source\tother\na\tb", r"no column 'target'; its columns are \['source', 'other'\]"),
        ("a.tsv", "source\ttarget\na\tb\tc", "line 2 has 3 fields for 2 columns"),
        ("a.tsv", "source\ttarget\n", "holds no pairs"),
        ("a.json", '[["a", "b"]]', r"record 1 must be an object with 'source' and 'target', got \['a', 'b'\]"),
        ("a.json", '[{"source": "a"}]', r"record 1 has no 'target'; its keys are \['id', 'source'\]"),
        ("a.json", '[{"source": "a", "target": true}]', "record 1: 'target' must be text, got True"),
        ("a.txt", "a", r"a\.txt must end in"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_pairs(tmp_path / name)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tsv"):
        load_pairs(tmp_path / "none.tsv")


def test_a_pair_is_there_once_in_either_direction():
    there = {**CAT, **LANGUAGES}
    back = {"source": "猫 ", "target": "the  cat", "src_lang": "Chinese", "tgt_lang": "English"}
    german = {"source": "the cat", "target": "die Katze", "src_lang": "English", "tgt_lang": "German"}
    assert unique_pairs([there, back, german, dict(there)]) == [there, german]
    assert unique_pairs([there, back], both_directions=False) == [there, back]
    assert len(apply_templates(unique_pairs([there, back]), ["In [tgt_lang]: [input]"])) == 2


def test_no_text_of_the_test_is_in_the_training_data():
    # 60 sentences, each with three translations of which one is that of four sentences
    pairs = [{"source": f"s{n // 3}", "target": f"t{n}" if n % 3 else f"u{n // 12}"} for n in range(180)]
    training, held_out = split_pairs(pairs, 0.25, seed=1)
    texts = [{pair[side] for pair in part for side in ("source", "target")} for part in (training, held_out)]
    assert not texts[0] & texts[1]
    assert len(training) + len(held_out) == 180
    assert 0.15 * 180 < len(held_out) <= 0.25 * 180
    assert (training, held_out) == split_pairs(pairs, 0.25, seed=1) != split_pairs(pairs, 0.25, seed=2)


def test_pairs_without_common_texts_are_split_exactly_and_stay_in_order():
    pairs = tiny_corpus(50)
    training, held_out = split_pairs(pairs, 0.2)
    assert len(held_out) == 10
    assert [pair for pair in pairs if pair in training] == training


def test_splits_that_cannot_be():
    labelled = [{"text": f"text {n}", "label": "AB"[n % 2]} for n in range(10)]
    assert len(split_pairs(labelled, 0.3, columns=["text"])[1]) == 3
    with pytest.raises(ValueError, match="10 and 0; 5 of them have texts in common in text or label"):
        split_pairs(labelled, 0.3, columns=["text", "label"])
    with pytest.raises(ValueError, match=r"pair 1 has no text in 'source'; its keys are \['text', 'label'\]"):
        split_pairs(labelled, 0.3)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        split_pairs(labelled, 1)
