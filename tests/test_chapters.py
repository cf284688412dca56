from gptlab import chapters
from gptlab.__main__ import main


def test_every_chapter_is_there_with_its_modules():
    listed = chapters.load_chapters()
    assert [chapter.number for chapter in listed] == [f"{number:02d}" for number in range(2, 13)]
    attention = listed[1]
    assert attention.title == "Attention"
    assert "model.attention" in attention.modules
    assert attention.folder.name == "ch03_attention"
    assert all(chapter.folder is not None for chapter in listed)


def test_the_table_is_what_the_command_prints(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "03  Attention (chapters/ch03_attention)\n    model.attention, " in printed
    assert "10  Building instruction data (chapters/ch10_building)" in printed
    assert all(len(line) <= 120 for line in printed.splitlines())


def test_without_the_repository_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(chapters, "_FOLDER", tmp_path)
    assert main([]) == 0
    assert "The lessons are in gptlab's repository, which is not here." in capsys.readouterr().out
