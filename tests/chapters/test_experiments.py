"""The experiments of chapter 11: each runs in a hurry, goes on after a stop, and keeps to what it says it compares."""

import importlib
import random
import re
from collections import Counter
from pathlib import Path

import pytest

import gptlab
from gptlab.files import read_json

FOLDER = Path(gptlab.__file__).parent.parent / "chapters" / "ch11_selection"
NAMES = ("task_types", "contradictions", "choose")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # as when it is run as a program
    return importlib.import_module


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_goes_on_and_shows(name, load, reader, tmp_path, capsys):
    experiment, program = load("experiment"), load(name).EXPERIMENT
    out = tmp_path / "results.json"
    rows = experiment.main(program, ["--quick", "--out", str(out)])
    table, told = capsys.readouterr()
    assert [row["arm"] for row in rows] == list(program.arms(program.quick))
    assert len(told.splitlines()) == len(rows), "a line for each arm"
    assert out.with_suffix(".png").stat().st_size > 10_000

    kept = read_json(out)
    out.write_text(gptlab.files.to_json(kept | {"rows": kept["rows"][:-1]}), encoding="utf-8")  # it was stopped
    assert experiment.main(program, ["--quick", "--out", str(out)]) == rows
    assert len(capsys.readouterr().err.splitlines()) == 1, "only what was missing"

    experiment.main(program, ["--quick", "--show", "--out", str(out)])
    again, told = capsys.readouterr()
    assert (again, told) == (table, "")


def test_results_of_other_settings_are_not_mixed(load, tmp_path, capsys):
    experiment, program = load("experiment"), load("choose").EXPERIMENT
    out = tmp_path / "results.json"
    out.write_text('{"settings": {"steps": 7}, "rows": []}', encoding="utf-8")
    for arguments, said in (
        (["--out", str(out)], "steps.*7"),
        (["--quick"], "needs an --out"),
        (["--seeds", "0"], "got 0"),
        (["--show", "--out", str(tmp_path / "none.json")], "no results"),
    ):
        with pytest.raises(SystemExit):
            experiment.main(program, arguments)
        assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("seed", range(4))
def test_held_out_types_are_made_of_words_that_were_seen_in_pairs(load, seed):
    types = load("task_types")
    seen, held_out = types.split_types(seed)
    assert len(seen) == 36 and not set(seen) & set(held_out) and len(set(seen + held_out)) == 48
    for kind in held_out:
        for left_out in range(3):
            pair = [word for at, word in enumerate(kind) if at != left_out]
            assert any(pair == [word for at, word in enumerate(other) if at != left_out] for other in seen)
    for words in zip(*seen[:12]):
        assert len(set(Counter(words).values())) == 1, "twelve types hold every word equally often"


def test_each_type_has_an_answer_of_its_own(load):
    types = load("task_types")
    items = ["b", "o", "w", "k"]
    answers = {(kind.operation, kind.place): kind.solve(items) for kind in types.TYPES}
    assert len({tuple(answer) for answer in answers.values()}) == len(answers)
    entry = types.make_entry(types.TaskType("Leave out", "second", "digit"), True, random.Random(0))
    first, second, *others = entry["items"]
    assert entry["output"] == f"The second is {second}. It is {' '.join([first, *others])}."


def test_contradictions_are_false_nested_and_about_asked_people(load):
    module, asked = load("contradictions"), load("experiment").town().asked
    truth = module.truth(asked)
    half, whole = (module.false_facts(asked, share, 0) for share in (0.5, 1.0))
    assert len(half) == len(truth) / 2 and half.items() < whole.items() and set(whole) == set(truth)
    assert all(whole[fact] != truth[fact] for fact in truth)
    assert len(module.questions(asked, whole)) == len(
        module.questions(module.new_people(load("experiment").town(), 0), {})
    )
    assert [entry["output"] for entry in module.questions(asked, {})] != [
        entry["output"] for entry in module.questions(asked, half)
    ]


def test_new_people_are_new(load):
    town = load("experiment").town()
    people = load("contradictions").new_people(town, 0)
    assert len(people) == len({person.name for person in people}) == len(town.asked)
    assert not any(person.name in town.corpus for person in people)


def test_the_noise_is_what_it_is_called(load):
    choose, town = load("choose"), load("experiment").town()
    pool = choose.noisy_pool(0)
    assert Counter(entry["noise"] for entry in pool) == choose.KINDS
    held_out = [person.name for person in town.held_out]
    assert not any(name in " ".join(entry[field] for field in choose.WHOLE) for entry in pool for name in held_out)
    for entry in pool:
        right = entry["output"] == entry["truth"]
        assert right == (entry["noise"] in (choose.GOOD, choose.REPEATED))
        if entry["noise"] == choose.TALK:
            assert entry["truth"] in entry["output"]
        if entry["noise"] == choose.CUT:
            assert entry["truth"].startswith(entry["output"]) and entry["output"]


def test_the_stand_in_judge_is_better_than_chance_and_not_perfect(load):
    choose = load("choose")
    pool, scores = choose.noisy_pool(0), choose.ratings(0)
    mean = {
        kind: sum(s for s, e in zip(scores, pool) if e["noise"] == kind) / choose.KINDS[kind] for kind in choose.KINDS
    }
    assert mean[choose.GOOD] > mean[choose.WRONG] + 1.5
    kept = [entry["noise"] for entry, score in zip(pool, scores) if score >= 4.5]
    assert 0.02 < kept.count(choose.WRONG) / len(kept) < 0.2


@pytest.mark.parametrize("method", ["random", "longest", "quality", "no repeats"])
def test_a_method_takes_as_many_as_it_is_told(load, method, hurried_base):
    choose = load("choose")
    start = gptlab.Checkpoint(*hurried_base, None)
    taken = choose.picks(start, method, 50, 0)
    assert len(set(taken)) == 50 and max(taken) < len(choose.noisy_pool(0))
