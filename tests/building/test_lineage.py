"""The tree of a run: read from its journal, and told in lines that a terminal holds."""

import pytest

from gptlab.building.evol_instruct import EvolInstruct
from gptlab.building.lineage import columns, lineage_text, lineage_tree, read_lineage, shortened
from gptlab.servers import Scripted


def record(name, parent=None, verdict="kept", instruction="Name it.", **more):
    told = {"op": "deepen" if parent else None, "round": int(name.partition(".")[2] or 0), "input": "", "detail": ""}
    return {"id": name, "parent": parent, "instruction": instruction, "verdict": verdict, **told, **more}


RECORDS = [
    record("0", verdict="given", instruction="Name a fruit."),
    record("1", verdict="given", instruction="加起来。", input="1, 2"),
    record("0.1", "0", instruction="Name a red\n\nfruit."),
    record("1.1", "1", "markers", detail="given prompt"),
    record("0.2", "0.1", "equal"),
    record("1.2", "1", instruction="再加一遍。"),
    record("0.3", "0.1"),
]


def test_the_tree():
    nodes = [node for root in lineage_tree(RECORDS) for node in root.walk()]
    assert [(depth, node.record["id"]) for depth, node in nodes] == [
        *[(0, "0"), (1, "0.1"), (2, "0.2"), (2, "0.3")],
        *[(0, "1"), (1, "1.1"), (1, "1.2")],
    ]
    assert lineage_tree([]) == []


def test_the_tree_as_text():
    assert lineage_text(RECORDS).split("\n") == [
        "0  Name a fruit.",
        "  0.1  deepen  kept  Name a red fruit.",
        "    0.2  deepen  equal  Name it.",
        "    0.3  deepen  kept  Name it.",
        "1  加起来。 1, 2",
        "  1.1  deepen  markers (given prompt)  Name it.",
        "  1.2  deepen  kept  再加一遍。",
    ]


def test_a_long_instruction_begins_where_it_is_new():
    text = "Name " + "very " * 30
    records = [
        record("0", verdict="given", instruction=f"{text}ripe fruits."),
        record("0.1", "0", instruction=f"{text}ripe fruits. Say why."),
        record("0.2", "0.1", instruction=f"{text}round fruits."),
        record("0.3", "0.1", instruction="另外说出三种水果。" * 9),
        record("0.4", "0.3", instruction="另外说出三种水果。" * 9 + "为什么？"),
    ]
    assert lineage_text(records, width=44).split("\n") == [
        "0  " + text[:38] + "...",
        "  0.1  deepen  kept  … Say why.",
        "    0.2  deepen  kept  … round fruits.",
        "    0.3  deepen  kept  另外说出三种水果。...",
        "      0.4  deepen  kept  … 为什么？",
    ]


@pytest.mark.parametrize("width", range(20, 60))
def test_no_line_is_wider_than_the_terminal(width):
    records = [record("0", instruction="水果 fruit " * 20), record("0.1", "0", "failed", detail="没有回答 at all" * 9)]
    assert all(columns(line) <= width for line in lineage_text(records, width=width).split("\n"))


def test_a_text_that_fits_is_not_cut_and_control_characters_are_not_written():
    assert shortened("水果", 4) == "水果"
    assert shortened("\x1b[31mred\tfig", 20) == " [31mred fig"


def test_a_journal_is_read_as_it_is_and_while_it_is_written(tmp_path):
    path = tmp_path / "j.jsonl"
    entries = [{"instruction": "说出水果。\u2028", "input": "", "output": "苹果"}]
    report = EvolInstruct(Scripted(lambda asked: "Equal"), rounds=2, journal=path).run(entries)
    assert read_lineage(path) == list(report.lineage)
    path.write_bytes(path.read_bytes()[:-5])
    assert read_lineage(path) == list(report.lineage[:-1])
    assert not path.read_bytes().endswith(b"\n")  # nothing was mended


@pytest.mark.parametrize("content", ["", '{"journal": "self-instruct"}\n', "[]\n", '{"id": "0"}\n{"id": "1"}\n'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="no journal of evol-instruct"):
        read_lineage(path)
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        read_lineage(tmp_path / "none.jsonl")


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"journal": "evol-instruct", "settings": {}}\n{"id"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2, is not JSON"):
        read_lineage(path)


def test_records_that_are_no_tree_are_refused():
    with pytest.raises(ValueError, match="two records have the id '0'"):
        lineage_tree([record("0"), record("0")])
    for parent in ("9", "0.1"):
        with pytest.raises(ValueError, match=f"'0.1' has the parent '{parent}'"):
            lineage_tree([record("0"), record("0.1", parent)])
    with pytest.raises(ValueError, match="width must be >= 20, got 19"):
        lineage_text(RECORDS, width=19)
