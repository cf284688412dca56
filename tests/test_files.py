from pathlib import Path

import pytest

from gptlab.files import check_writable, checkpoints_folder, read_json, read_text, write_text, write_together


def test_text_round_trip_with_and_without_byte_order_mark(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "你好\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "你好\n".encode()
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "b.json") == [1]


def test_all_files_or_none(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError):
        write_together(tmp_path, {"a.txt": "new", "b.txt": None})
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert read_text(tmp_path / "a.txt") == "old"


def test_a_directory_in_the_way_stops_before_anything_is_replaced(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(IsADirectoryError, match="b.txt: it is a directory"):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "new"})
    assert read_text(tmp_path / "a.txt") == "old"


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.txt"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(IsADirectoryError, match="is a directory, not a file"):
        read_text(tmp_path)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8.*byte 0"):
        read_text(tmp_path / "latin.txt")
    (tmp_path / "a.json").write_text("[1,", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json is not JSON: .*line 1"):
        read_json(tmp_path / "a.json")


def test_check_writable_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "file", "")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        check_writable(tmp_path / "file" / "deeper")


def test_inside_a_copy_of_the_repository_models_are_in_its_own_folder(tmp_path, monkeypatch):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "chapters.toml").touch()
    (tmp_path / "notebooks").mkdir()
    for folder in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(folder)
        assert checkpoints_folder() == tmp_path / "checkpoints"
    (tmp_path / "chapters" / "chapters.toml").unlink()
    assert checkpoints_folder() == Path("checkpoints")
