"""Evol-Instruct: the pool over the rounds, every verdict, journals that go on, and servers that answer badly."""

import json
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import gptlab
from gptlab.building.elimination import VERDICTS
from gptlab.building.evol_instruct import EvolInstruct
from gptlab.building.evol_prompts import FORMATS, JUDGEMENT, OPERATIONS, evol_prompt
from gptlab.servers import Bounded, BudgetSpent, Cached, Reply, Scripted, ServerError

ENTRIES = [
    {"instruction": "Name a fruit.", "input": "", "output": "A fig.", "topic": "food"},
    {"instruction": "Add them.", "input": "1, 2", "output": "3"},
    {"instruction": "天空是什么颜色？", "input": "", "output": "蓝色。"},
]


def kind(asked):
    """Return which of the three questions this is."""
    return "equal" if asked.endswith(JUDGEMENT) else "evolve" if asked.endswith(" Prompt#:") else "answer"


def given(asked):
    return asked.rpartition("#Given Prompt#:\n")[2].rpartition("\n\n#")[0]


def model(**replies):
    """Return a server that adds a "more" to each prompt, answers "Done.", and sees a difference, but for `replies`."""
    usual = {"evolve": lambda asked: f"{given(asked)} more", "answer": "Done.", "equal": "Not Equal"} | replies

    def reply(asked):
        found = usual[kind(asked)]
        return found(asked) if callable(found) else found

    return Scripted(reply)


def verdict_of(**replies):
    """Return the record of one attempt on one entry, and its calls."""
    server = model(**replies)
    report = EvolInstruct(server, rounds=1).run(ENTRIES[:1])
    assert report.calls == server.calls == report.lineage[-1]["calls"]
    return report.lineage[-1]


@pytest.fixture(scope="module")
def stand_in():
    path = Path(gptlab.__file__).parent.parent / "chapters" / "ch10_building" / "stand_in_evol.py"
    spec = spec_from_file_location("stand_in_evol", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_generation_is_in_the_union():
    server = model()
    report = EvolInstruct(server, rounds=2).run(ENTRIES)
    assert [entry["instruction"] for entry in report.entries] == [
        *("Name a fruit.", "Add them.", "天空是什么颜色？"),
        *("Name a fruit. more", "Add them.\r\n1, 2 more", "天空是什么颜色？ more"),
        *("Name a fruit. more more", "Add them.\r\n1, 2 more more", "天空是什么颜色？ more more"),
    ]
    assert [entry["id"] for entry in report.entries] == ["0", "1", "2", "0.1", "1.1", "2.1", "0.2", "1.2", "2.2"]
    assert [entry["parent"] for entry in report.entries] == [None, None, None, "0", "1", "2", "0.1", "1.1", "2.1"]
    assert [entry["round"] for entry in report.entries] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert report.entries[0] == {**ENTRIES[0], "id": "0", "parent": None, "op": None, "round": 0}
    assert report.entries[4]["op"] in OPERATIONS
    assert [report.entries[4][key] for key in ("input", "output")] == ["", "Done."]
    assert report.latest == report.entries[-3:]
    assert report.verdicts == {0: {"given": 3}, 1: {"kept": 3}, 2: {"kept": 3}}
    assert (report.calls, report.ended, server.calls) == (18, None, 18)
    assert "9 entries from 3, by 18 calls" in str(report)


def test_what_is_asked():
    server = model()
    [_, record] = EvolInstruct(server, rounds=1).run(ENTRIES[1:2]).lineage
    evolve, answer, equal = (messages[0]["content"] for messages in server.asked)
    assert evolve == evol_prompt("Add them.\r\n1, 2", record["op"], format=record["format"] or "XML")
    assert answer == "Add them.\r\n1, 2 more"
    assert "The First Prompt: Add them.\r\n1, 2\nThe Second Prompt: Add them.\r\n1, 2 more\n" in equal


def test_what_fails_leaves_its_parent_in_the_pool():
    wanted = iter(["Equal", "Not Equal", "Equal", "Not Equal"])
    report = EvolInstruct(model(equal=lambda asked: next(wanted)), rounds=4).run(ENTRIES[:1])
    records = [(record["id"], record["parent"], record["verdict"]) for record in report.lineage]
    assert records == [
        *[("0", None, "given"), ("0.1", "0", "equal"), ("0.2", "0", "kept")],
        *[("0.3", "0.2", "equal"), ("0.4", "0.2", "kept")],
    ]
    assert [entry["id"] for entry in report.entries] == ["0", "0.2", "0.4"]
    assert report.entries[-1]["instruction"] == "Name a fruit. more more"
    assert [entry["id"] for entry in report.latest] == ["0.4"]


CASES = [
    ({"evolve": Reply("Name a fruit tr", "length")}, "cut", "", 1),
    ({"evolve": "Sure, here is the rewritten prompt:\n\n"}, "empty", "", 1),
    ({"evolve": "name a  FRUIT."}, "unchanged", "", 1),
    ({"evolve": "Reply to the Given Prompt."}, "markers", "Given Prompt", 1),
    ({"answer": Reply("A fig is a", "length")}, "answer cut", "", 2),
    ({"answer": "I'm sorry."}, "sorry", "", 2),
    ({"answer": "<think>Hm.</think>..."}, "no words", "", 2),
    ({"equal": "Equal"}, "equal", "", 3),
    ({"equal": "Who knows?"}, "unjudged", "Who knows?", 3),
    ({"equal": "<think>They look equal.</think>Not Equal."}, "kept", "", 3),
    ({"evolve": ServerError("no reply within 5 s")}, "failed", "no reply within 5 s", 1),
    ({"answer": ServerError("too long")}, "failed", "too long", 2),
    ({"equal": " "}, "failed", "scripted sent an empty reply", 3),
    ({"evolve": "half \ud83d"}, "failed", "scripted sent a reply that is no text", 1),
]


@pytest.mark.parametrize(("replies", "verdict", "detail", "calls"), CASES)
def test_verdicts(replies, verdict, detail, calls):
    record = verdict_of(**replies)
    assert (record["verdict"], record["calls"]) == (verdict, calls)
    assert record["detail"].startswith(detail)
    assert bool(record["detail"]) == bool(detail)


def test_a_plain_function_may_say_nothing():
    report = EvolInstruct(lambda messages: "", rounds=1).run(ENTRIES[:1])
    assert report.lineage[-1]["verdict"] == "empty"
    with pytest.raises(TypeError, match="reply with text, got None"):
        EvolInstruct(lambda messages: None).run(ENTRIES)


def test_two_entries_do_not_become_the_same():
    report = EvolInstruct(model(evolve="Name a nut."), rounds=2).run(ENTRIES[:2])
    assert [record["verdict"] for record in report.lineage[2:]] == ["kept", "duplicate", "unchanged", "duplicate"]


def test_every_verdict_is_explained():
    assert {verdict for _, verdict, _, _ in CASES} | {"duplicate"} == set(VERDICTS)


def test_operations_are_drawn_equally_and_by_the_seed():
    def run(seed, operations=OPERATIONS):
        fails = model(evolve="The given prompt.")  # by one call, and the pool stays as it is
        report = EvolInstruct(fails, seed=seed, rounds=600, operations=operations).run(ENTRIES[:1])
        return [(record["op"], record["format"]) for record in report.lineage[1:]]

    drawn = run(0)
    counts = Counter(operation for operation, _ in drawn)
    assert set(counts) == set(OPERATIONS)
    assert all(60 < count < 140 for count in counts.values())  # 100 expected; 4 standard deviations are 37
    assert {format for operation, format in drawn if operation == "complicate"} == set(FORMATS)
    assert {format for operation, format in drawn if operation != "complicate"} == {None}
    assert run(0) == drawn != run(1)
    assert {operation for operation, _ in run(0, ["breadth"])} == {"breadth"}


def test_the_release_decodes_like_this_and_each_request_has_its_seed():
    class Told:
        """A server that writes down with which options it is asked."""

        name = "told"

        def __init__(self, options=None, calls=None):
            self.options, self.calls = options, [] if calls is None else calls

        def with_options(self, **options):
            return Told(options, self.calls)

        def __call__(self, messages):
            self.calls.append((kind(messages[-1]["content"]), self.options))
            return model()(messages)

    server = Told()
    EvolInstruct(server, rounds=2, top_p=0.9).run(ENTRIES[:1])
    evolve, answer, equal, again, *_ = (options for _, options in server.calls)
    assert evolve == answer == {"temperature": 1.0, "top_p": 0.9, "max_tokens": 2048, "seed": evolve["seed"]}
    assert equal == {"temperature": 0.0, "max_tokens": 2048}
    assert again["seed"] != evolve["seed"]
    server = Told()
    EvolInstruct(server, rounds=1, temperature=None).run(ENTRIES[:1])
    assert [options["temperature"] for _, options in server.calls] == [None] * 3  # some models take no temperature
    assert EvolInstruct(server).options["top_p"] == 0.95


def test_another_server_judges():
    server, judge = model(), Scripted(lambda asked: "Equal", name="judge")
    report = EvolInstruct(server, rounds=3, judge=judge).run(ENTRIES)
    assert report.verdicts[3] == {"equal": 3}
    assert (server.calls, judge.calls, report.calls) == (18, 9, 27)


def test_empty_and_duplicate_entries_are_told_and_left_out():
    entries = [
        {"instruction": " ", "input": "x", "output": ""},
        *ENTRIES[:2],
        {"instruction": "name a fruit. ", "input": "", "output": "A plum."},
        {"instruction": "Add them.", "input": "3, 4", "output": "7", "id": "seed 9"},
    ]
    report = EvolInstruct(model(), rounds=1).run(entries)
    assert report.verdicts == {0: {"given": 3, "empty": 1, "duplicate": 1}, 1: {"kept": 3}}
    assert [entry["id"] for entry in report.entries] == ["1", "2", "4", "1.1", "2.1", "4.1"]
    assert report.given[2]["source_id"] == "seed 9"
    with pytest.raises(ValueError, match="1 given, none with an instruction"):
        EvolInstruct(model()).run(entries[:1])
    with pytest.raises(ValueError, match="0 given"):
        EvolInstruct(model()).run([])


def test_a_server_that_answers_nonsense_for_ever_ends_after_its_rounds():
    server = Scripted(lambda asked: "blah")
    report = EvolInstruct(server, rounds=3).run(ENTRIES)
    assert report.ended is None
    assert [entry["instruction"] for entry in report.entries] == [entry["instruction"] for entry in ENTRIES]
    assert report.verdicts == {0: {"given": 3}, 1: {"unjudged": 3}, 2: {"unjudged": 3}, 3: {"unjudged": 3}}
    assert server.calls == 27


@pytest.mark.parametrize("calls", range(10))
def test_a_spent_budget_ends_the_run_with_what_it_has(calls, tmp_path):
    bounded = Bounded(model(), calls=calls)
    report = EvolInstruct(bounded, rounds=2, journal=tmp_path / "j.jsonl").run(ENTRIES[:2])
    assert report.calls == bounded.calls == calls
    assert "which is the bound" in report.ended
    assert "ended early: " in str(report)
    assert len(report.entries) == 2 + calls // 3
    rest = EvolInstruct(model(), rounds=2, journal=tmp_path / "j.jsonl").run(ENTRIES[:2])
    assert rest.entries == EvolInstruct(model(), rounds=2).run(ENTRIES[:2]).entries


def test_a_server_that_is_not_there_is_an_error_and_one_that_goes_away_ends_the_run():
    gone = ServerError("nothing answers at http://x", fatal=True)
    with pytest.raises(ServerError, match="nothing answers"):
        EvolInstruct(model(evolve=gone)).run(ENTRIES)
    report = EvolInstruct(Scripted(["Name a nut.", "A nut.", "Not Equal", gone])).run(ENTRIES)
    assert (report.ended, len(report.entries), report.calls) == ("nothing answers at http://x", 4, 4)


def test_many_failures_in_a_row_end_the_run():
    busy = ServerError("busy", passing=True)
    report = EvolInstruct(model(evolve=busy), rounds=9, patience=4).run(ENTRIES)
    assert report.ended == "4 attempts in a row failed, the last by: busy"
    assert report.verdicts == {0: {"given": 3}, 1: {"failed": 3}, 2: {"failed": 1}}
    lame = model(evolve=lambda asked: busy if given(asked).startswith("Name") else f"{given(asked)} more")
    assert EvolInstruct(lame, rounds=9, patience=2).run(ENTRIES).ended is None  # never two in a row


def test_failures_that_lie_with_the_prompts_end_no_run_that_was_ever_answered(tmp_path):
    refusals = iter(["Name a nut.", "A nut.", "Not Equal"])
    refuses = Scripted(lambda asked: next(refusals, ServerError("too long")))
    lasting = EvolInstruct(refuses, rounds=9, patience=4, journal=tmp_path / "j.jsonl").run(ENTRIES)
    assert lasting.ended is None and lasting.verdicts[9] == {"failed": 3}
    assert EvolInstruct(refuses, rounds=20, patience=4, journal=tmp_path / "j.jsonl").run(ENTRIES).ended is None
    wrong = Scripted(lambda asked: ServerError("400: no such option"))  # it would refuse each of 208,000 questions
    report = EvolInstruct(wrong, patience=4).run(ENTRIES)
    assert (report.ended, wrong.calls) == ("4 attempts in a row failed, the last by: 400: no such option", 4)


def test_killed_after_any_record_it_goes_on_to_the_same_end(stand_in, tmp_path):
    def run(path):
        return EvolInstruct(stand_in.StandIn(), seed=stand_in.SEED, journal=path).run(stand_in.ENTRIES)

    whole = run(tmp_path / "whole.jsonl")
    written = (tmp_path / "whole.jsonl").read_bytes()
    lines = written.splitlines(keepends=True)
    assert len(lines) == 1 + 5 + 20
    for count in range(len(lines) + 1):
        path = tmp_path / f"{count}.jsonl"
        path.write_bytes(b"".join(lines[:count]) + b"".join(lines[count : count + 1])[:30])  # and a part of the next
        assert run(path) == whole
        assert path.read_bytes() == written
    calls = []
    again = EvolInstruct(Scripted(calls.append, name="stand-in"), seed=stand_in.SEED, journal=tmp_path / "whole.jsonl")
    assert again.run(stand_in.ENTRIES) == whole
    assert not calls  # all is there


def test_a_journal_goes_on_with_more_rounds(tmp_path):
    path = tmp_path / "j.jsonl"
    first = EvolInstruct(model(), rounds=1, journal=path).run(ENTRIES)
    more = EvolInstruct(model(), rounds=3, journal=path).run(ENTRIES)
    assert more == EvolInstruct(model(), rounds=3).run(ENTRIES)
    assert EvolInstruct(model(), rounds=1, journal=path).run(ENTRIES) == first


def test_a_journal_of_another_run_is_refused(tmp_path):
    path = tmp_path / "j.jsonl"
    EvolInstruct(model(), rounds=1, journal=path).run(ENTRIES)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="seed was 0, and is 1"):
        EvolInstruct(model(), seed=1, journal=path).run(ENTRIES)
    with pytest.raises(ValueError, match="entries was"):
        EvolInstruct(model(), journal=path).run(ENTRIES[:2])
    assert path.read_bytes() == before


def test_a_retry_is_another_question_to_a_cache(stand_in, tmp_path):
    # With one operation, a failed prompt is asked again to the letter; its seed makes the cache ask, and not repeat.
    class Twice(stand_in.StandIn):
        def __call__(self, messages):
            asked.append(messages[-1]["content"])
            return Reply(given(asked[-1]))

    asked = []
    run = EvolInstruct(Cached(Twice(), tmp_path / "c.jsonl"), rounds=3, operations=["deepen"])
    assert [record["verdict"] for record in run.run(ENTRIES[:1]).lineage[1:]] == ["unchanged"] * 3
    assert len(asked) == 3 and len(set(asked)) == 1


def test_the_stand_in_shows_all_four_rules_and_its_faults_can_be_switched_off(stand_in):
    report = EvolInstruct(stand_in.StandIn(), seed=stand_in.SEED).run(stand_in.ENTRIES)
    assert {"equal", "sorry", "no words", "markers", "cut"} <= {record["verdict"] for record in report.lineage}
    clean = EvolInstruct(stand_in.StandIn(()), seed=stand_in.SEED).run(stand_in.ENTRIES)
    assert {record["verdict"] for record in clean.lineage} <= {"given", "kept", "duplicate"}
    with pytest.raises(ValueError, match="chatty, repeats.*got lazy"):
        stand_in.StandIn(["lazy"])


def test_the_report_is_json(tmp_path):
    report = EvolInstruct(model(), rounds=1).run(ENTRIES)
    assert json.loads(json.dumps([report.entries, report.lineage])) == [report.entries, list(report.lineage)]
    gptlab.save_entries(tmp_path / "e.json", report.entries)
    assert gptlab.load_entries(tmp_path / "e.json") == report.entries


def test_a_bar_on_request(capsys):
    EvolInstruct(model(), rounds=1).run(ENTRIES, progress=True)
    assert "evolving: 100%" in capsys.readouterr().err
    EvolInstruct(model(), rounds=1).run(ENTRIES)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds must be a whole number >= 1, got 0"),
        ({"patience": True}, "patience must be a whole number >= 1, got True"),
        ({"operations": []}, r"operations must be some of constraints, .*got \[\]"),
        ({"operations": ["deepen", "widen"]}, r"got \['widen'\]"),
        ({"operations": "deepen"}, "got "),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        EvolInstruct(model(), **settings)


def test_what_cannot_be_asked_is_refused(tmp_path):
    with pytest.raises(TypeError, match="got 'phi3'"):
        EvolInstruct("phi3")
    with pytest.raises(TypeError, match="got 3"):
        EvolInstruct(model(), judge=3)
    with pytest.raises(ValueError, match="entry 2 has no 'output'"):
        EvolInstruct(model(), journal=tmp_path / "j.jsonl").run([ENTRIES[0], {"instruction": "Hi."}])
    assert not (tmp_path / "j.jsonl").exists()
    assert issubclass(BudgetSpent, ServerError)
