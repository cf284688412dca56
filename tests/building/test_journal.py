import errno
import json

import pytest

from gptlab.building.journal import Journal

SETTINGS = {"seed": 3, "bounds": (1, 2)}


def test_what_was_written_is_read_again(tmp_path):
    path = tmp_path / "runs" / "journal.jsonl"
    first = Journal(path, "example", SETTINGS)
    first.append({"step": 0, "text": "你好\nworld"})
    first.append({"step": 1, "text": None})
    again = Journal(path, "example", SETTINGS)
    assert again.records == first.records == [{"step": 0, "text": "你好\nworld"}, {"step": 1, "text": None}]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"journal": "example", "settings": {"seed": 3, "bounds": [1, 2]}}
    assert "你好" in lines[1]


def test_a_journal_without_a_file_is_in_memory():
    journal = Journal(None, "example", {})
    journal.append({"step": 0})
    assert journal.records == [{"step": 0}]


def test_a_record_is_kept_as_it_was_when_it_was_written():
    journal, record = Journal(None, "example", {}), {"step": 0}
    journal.append(record)
    record["step"] = 9
    assert journal.records == [{"step": 0}]


def test_wherever_a_run_is_killed_the_whole_lines_stay(tmp_path):
    path = tmp_path / "whole.jsonl"
    journal = Journal(path, "example", SETTINGS)
    for step in range(3):
        journal.append({"step": step, "text": "猫"})
    content, cut = path.read_bytes(), tmp_path / "cut.jsonl"
    for size in range(len(content)):
        cut.write_bytes(content[:size])
        kept = max(content[:size].count(b"\n") - 1, 0)
        resumed = Journal(cut, "example", SETTINGS)
        assert resumed.records == journal.records[:kept]
        for record in journal.records[kept:]:
            resumed.append(record)
        assert cut.read_bytes() == content


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, "example", SETTINGS)
    before = path.read_bytes()

    def fail(path, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gptlab.building.journal.append_json", fail)
    with pytest.raises(OSError, match="No space"):
        journal.append({"step": 0})
    assert path.read_bytes() == before and journal.records == []


@pytest.mark.parametrize("content", ["hello\n", '[{"instruction": "Hi"}]\n', '{"instruction": "Hi"}', "{\nno\n"])
def test_another_file_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.json is"):
        Journal(path, "example", SETTINGS)
    assert path.read_text(encoding="utf-8") == content


def test_other_settings_and_kinds_are_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, "example", SETTINGS)
    with pytest.raises(ValueError, match="seed was 3, and is 4"):
        Journal(path, "example", {**SETTINGS, "seed": 4})
    with pytest.raises(ValueError, match="bounds was .*, and is None"):
        Journal(path, "example", {"seed": 3})
    with pytest.raises(ValueError, match="the journal of example, not of other"):
        Journal(path, "other", SETTINGS)
    with pytest.raises(IsADirectoryError, match="is a directory"):
        Journal(tmp_path, "example", SETTINGS)
