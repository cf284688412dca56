"""`gptlab select`, as people type it."""

import json

import pytest
from judge_server import JudgeServer

from gptlab.__main__ import main
from gptlab.data import load_entries

SUBJECTS = ("rivers", "breads", "clocks", "metals", "poems")
ENTRIES = [
    {"instruction": f"Tell me {number} things about {subject}.", "input": "", "output": f"{subject} " * 4**number}
    for subject in SUBJECTS
    for number in range(4)
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.json").write_text(json.dumps(ENTRIES), encoding="utf-8")
    (tmp_path / "test.json").write_text(
        json.dumps([{"instruction": "tell me 2 things about rivers"}]), encoding="utf-8"
    )
    return tmp_path


def select(*arguments):
    return main(["select", "--entries", "all.json", "--out", "out.json", "--quiet", *map(str, arguments)])


def chosen():
    return [ENTRIES.index({key: entry[key] for key in ENTRIES[0]}) for entry in load_entries("out.json")]


def test_one_of_each_kind_is_what_diversity_chooses():
    for method in ("kmeans", "facility-location"):
        assert select("--method", method, "--count", 5) == 0
        assert {number // 4 for number in chosen()} == set(range(5))


def test_the_longest_first():
    assert select("--method", "longest", "--count", 3) == 0
    assert {number % 4 for number in chosen()} == {3}


def test_random_is_by_its_seed():
    drawn = []
    for seed in (0, 0, 1):
        assert select("--method", "random", "--count", 6, "--seed", seed) == 0
        drawn.append(chosen())
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 6


def test_what_goes_out_is_counted(capsys):
    assert select("--test", "test.json", "--near-duplicates", 0.75, "--card", "card.html") == 0
    said = capsys.readouterr().out
    assert "near-duplicates" in said and "in the test" in said and "card.html shows it" in said
    out = [int(line.split()[0]) for line in said.splitlines() if " out: " in line]
    assert sum(out) + len(chosen()) == len(ENTRIES) and min(out) > 0


def test_novel_by_its_threshold():
    assert select("--method", "novel", "--threshold", 1) == 0
    assert chosen() == list(range(len(ENTRIES)))
    assert select("--method", "novel", "--threshold", 0.75) == 0
    assert chosen() == [0, 5, 10, 15]  # those that share neither the subject nor the number


def test_a_judge_rates_once_and_alpha_weighs_it(capsys):
    with JudgeServer(lambda asked: "5" if "about metals" in asked else "1") as server:
        asking = ["--server", "ollama", "--url", server.url]
        assert select("--method", "quality", *asking) == 0
        assert {ENTRIES[number]["instruction"].split()[-1] for number in chosen()} == {"metals."}
        assert "mean" in capsys.readouterr().out
        assert load_entries("out.json")[0]["quality"] == 5
        asked = len(server.requests)
        assert select("--method", "facility-location", "--count", 4, "--alpha", 1, *asking) == 0
        assert {number // 4 for number in chosen()} == {3} and len(server.requests) == asked
        assert load_entries("out.json")[0]["quality"] == 5


def test_ratings_that_entries_came_with(here, capsys):
    rated = [entry | {"quality": 4.5 if number == 7 else 2} for number, entry in enumerate(ENTRIES)]
    (here / "all.json").write_text(json.dumps(rated), encoding="utf-8")
    assert select("--method", "quality") == 0
    assert chosen() == [7]


def test_on_a_scale_below_zero_too_an_entry_without_a_rating_is_as_bad_as_the_worst(here):
    scores = [None, *range(-30, -11)]
    rated = [entry | {"quality": score} for entry, score in zip(ENTRIES, scores)]
    (here / "all.json").write_text(json.dumps(rated), encoding="utf-8")
    assert select("--method", "facility-location", "--count", 2, "--alpha", 1) == 0
    assert chosen() == [19, 18]


@pytest.mark.parametrize("score", ["4.5", float("nan"), True])
def test_ratings_that_are_no_numbers_are_refused(here, capsys, score):
    (here / "all.json").write_text(json.dumps([ENTRIES[0] | {"quality": score}]), encoding="utf-8")
    for method in (["quality"], ["facility-location", "--count", 1, "--alpha", 0.5]):
        assert select("--method", *method) == 2
        assert "entry 1: 'quality' must be a number" in capsys.readouterr().err


def test_nothing_is_written_where_nothing_is_good_enough(here, capsys):
    rated = [entry | {"quality": 2} for entry in ENTRIES]
    (here / "all.json").write_text(json.dumps(rated), encoding="utf-8")
    assert select("--method", "quality", "--card", "card.html") == 2
    assert "nothing is left: 20 not chosen by quality" in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["all.json", "test.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "longest"], "--method longest needs --count"),
        (["--count", 3], "--count needs --method: random, longest"),
        (["--method", "random", "--count", 21], "at most 20, the number of entries, got 21"),
        (["--method", "facility-location", "--count", 3, "--alpha", 1.5], "--alpha must be in [0, 1], got 1.5"),
        (["--method", "facility-location", "--count", 3, "--alpha", "nan", "--server", "ollama"], "got nan"),
        (["--method", "quality", "--threshold", 45, "--server", "ollama"], "of quality must be in [0, 5], got 45"),
        (["--method", "novel", "--threshold", 1.5], "of novel must be in [0, 1], got 1.5"),
        (["--method", "facility-location", "--count", 3, "--alpha", 0.5], "20 entries have no 'quality'"),
        (["--method", "random", "--count", 3, "--alpha", 0.5], "--alpha is for"),
        (["--method", "random", "--count", 3, "--server", "ollama"], "--server and --replay are for"),
        (["--method", "kmeans", "--count", 3, "--threshold", 1], "--threshold is for"),
        (["--rules"], "nothing is left: 20 rule: length >= 1200"),
        (["--card", "all.json"], "another file than those that are read"),
    ],
)
def test_wrong_arguments_write_nothing(here, capsys, arguments, says):
    assert select(*arguments) == 2
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["all.json", "test.json"]
