"""Self-Instruct as a whole: what it asks, what it keeps, when it ends, and that it goes on where it was."""

import json
import random
import re
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path

import pytest
from judge_server import JudgeServer, Said

import gptlab
from gptlab.building.seed_tasks import load_seed_tasks
from gptlab.building.self_instruct import SelfInstruct
from gptlab.building.task_pool import TaskPool
from gptlab.data import load_entries, save_entries
from gptlab.rouge import rouge_l
from gptlab.servers import Bounded, Cached, OpenAIServer, Reply, Scripted, ServerError

STAND_IN = Path(gptlab.__file__).parent.parent / "chapters" / "ch10_building" / "stand_in.py"


@pytest.fixture(scope="module")
def stand_in():
    spec = spec_from_file_location("stand_in", STAND_IN)
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "stand_in", module)  # dataclasses look there
        spec.loader.exec_module(module)
    return module


class Model:
    """A model in words of this file: each prompt brings tasks of its own; what else it says is given."""

    name = "model"

    def __init__(self, tasks=None, kind="No", examples="Example 1\nWord: {n}\nOutput: {n}{n}"):
        self.tasks, self.kind, self.examples = tasks, kind, examples
        self.asked, self._numbers = [], count()

    def __call__(self, messages):
        [message] = messages
        prompt = message["content"]
        self.asked.append(prompt)
        chance = random.Random(prompt)
        if prompt.startswith("Come up with a series"):
            words = [[f"w{chance.randrange(10**9)}" for _ in range(5)] for _ in range(2)]
            return self.tasks if self.tasks is not None else "\n10. ".join(" ".join(line) for line in words)
        answer = self.kind if prompt.endswith("Is it classification?") else self.examples
        return answer(prompt) if callable(answer) else answer.replace("{n}", str(chance.randrange(10**9)))

    def questions(self, beginning):
        return [prompt for prompt in self.asked if prompt.startswith(beginning)]


# ---- what is asked


def test_prompts_show_six_tasks_by_people_and_two_by_the_model():
    model = Model()
    run = SelfInstruct(model)
    report = run.run(6)
    seeds = {task["id"] for task in load_seed_tasks()}
    drawn = [record["examples"] for record in run.journal.records if record["step"] == "instructions"]
    assert [len(set(names)) for names in drawn] == [8] * len(drawn)
    assert [len(set(names) - seeds) for names in drawn] == [0, 2, 2]
    assert len({tuple(names) for names in drawn}) == len(drawn)
    texts = {task["id"]: task["instruction"] for task in load_seed_tasks()}
    lines = model.asked[0].split("\n")
    assert lines[0] == "Come up with a series of tasks:" and lines[-1] == "9."
    shown = [re.sub(r"^\d+\. ", "", line) for line in lines[1:-1]]
    assert shown == [texts[name] for name in drawn[0]]
    assert [task.parents for task in report.tasks[:2]] == [tuple(drawn[0])] * 2


def test_a_pool_of_one_shows_seven_by_people():
    pool = TaskPool(load_seed_tasks(), 0.7)
    item = {"id": "machine_task_0", "instruction": "Count the ships.", "nearest": []}
    pool.take_up({"step": "instructions", "examples": [], "found": [item]}, "here")
    places = {pool.draw(random.Random(seed)).index("machine_task_0") for seed in range(60)}
    assert places == set(range(8))  # it is always there, and at every place


@pytest.mark.parametrize(
    ("kind", "heading"), [("Yes", "Given the classification task"), ("No", "Come up with examples")]
)
def test_classification_is_asked_label_first(kind, heading):
    label_first = "Class label: red\nFruit: cherry"
    model = Model("Name {the} colour of a fruit.", kind, label_first if kind == "Yes" else "Fruit: cherry\nOutput: red")
    report = SelfInstruct(model).run(1)
    assert [prompt.split("\n")[0].startswith(heading) for prompt in model.asked] == [False, False, True]
    assert all("\nTask: Name {the} colour of a fruit.\n" in prompt for prompt in model.asked[1:])
    [entry] = report.entries
    assert entry["is_classification"] is (kind == "Yes")
    assert (entry["output"], entry["input"].removeprefix("Fruit: ")) == ("red", "cherry")


def test_options_reach_an_openai_server(stand_in):
    model = stand_in.StandIn()

    def say(question):
        reply = model([{"role": "user", "content": question}])
        return Said(str(reply), reply.reason)

    with JudgeServer(say, models=["phi3"]) as server:
        asked = OpenAIServer("phi3", f"{server.url}/v1")
        run = SelfInstruct(asked, decoding={"classification": {"max_tokens": 9}}, workers=3)
        report = run.run(5)
        asked.close()
        bodies = [request.body for request in server.requests if "messages" in request.body]
    assert report.ended == "reached 5" and report.server == "phi3" and report.calls == len(bodies)
    first = next(body for body in bodies if body["messages"][0]["content"].startswith("Come up with a series"))
    assert (first["temperature"], first["top_p"], first["presence_penalty"]) == (0.7, 0.5, 2.0)
    kinds = [body for body in bodies if body["messages"][0]["content"].endswith("classification?")]
    assert {body.get("max_tokens", body.get("max_completion_tokens")) for body in kinds} == {9}
    assert {body["temperature"] for body in bodies} == {0.7, 0.0}


# ---- what is kept


def test_each_rule_has_its_count():
    seed = load_seed_tasks()[4]["instruction"]
    tasks = ["Tell me what a lantern is for.", "Tell me what that lantern is for.", seed, "写一首关于灯笼的诗。"]
    tasks += ["写一首关于灯笼的小诗。", "Draw it with a brush.", "", "An eighth and last task is this.", "No."]
    reply = "\n".join(f"{number}. {task}" for number, task in enumerate(tasks, start=9))
    run = SelfInstruct(Model(reply))
    report = run.run(2)
    assert report.rejected["instruction"] == {"too similar": 3, "after the 15th": 2, "blocked word": 1, "empty": 1}
    assert [task.instruction for task in report.tasks] == [tasks[0], tasks[3]]
    because = [item.get("because") for item in run.journal.records[0]["found"]]
    assert because == [None, "machine_task_0", "seed_task_4", None, "machine_task_1", "draw", "", "", ""]


def test_the_nearest_are_those_of_rouge_l():
    model = Model("Explain to a neighbour why tea gets cold.\n10. Explain to a friend how one makes tea for six.")
    first, second = SelfInstruct(model).run(2).tasks
    pool = {task["id"]: task["instruction"] for task in load_seed_tasks()} | {first.id: first.instruction}
    scores = {name: rouge_l(second.instruction, text) for name, text in pool.items()}
    assert [near["rouge_l"] for near in second.nearest] == sorted(scores.values(), reverse=True)[:10]
    assert all(near["rouge_l"] == scores[near["id"]] for near in second.nearest)
    assert second.nearest[0]["id"] == first.id and len(first.nearest) == 10


def test_the_boundary_is_above_not_at():
    """L = 7 of 10 and 10 words is 0.7, which stays; of 9 and 11 it is 0.7000000000000001, which does not."""
    common = "one two three four five eight seven"

    def kept(first, second):
        return len(SelfInstruct(Model(f" {common} {first}\n10. {common} {second}"), patience=6).run(2).tasks)

    assert kept("a b c", "d e f") == 2
    assert kept("a b", "d e f g") == 1


def test_capitals_stay():
    """The original's capitalize() makes "python" of Python, and "nasa" of NASA."""
    report = SelfInstruct(Model(" explain what NASA does with Python")).run(1)
    assert report.tasks[0].instruction == "explain what NASA does with Python"


@pytest.mark.parametrize(("whole", "tasks", "cut"), [(False, 1, 1), (True, 0, 2)])
def test_a_list_that_was_cut(whole, tasks, cut):
    model = Model(Reply(" Name the longest river.\n10. Describe the colour of the se", "length"))
    report = SelfInstruct(model, whole_replies=whole, patience=3).run(9)
    assert len(report.tasks) == tasks
    assert report.rejected["instruction"]["cut by length"] >= cut


def test_an_instance_that_was_cut():
    cut = Reply("Example 1\nWord: a\nOutput: A\nExample 2\nWord: b\nOutp", "length")
    assert [entry["output"] for entry in SelfInstruct(Model(examples=lambda prompt: cut)).run(1).entries] == ["A"]


def test_half_of_the_inputs_lose_the_name_of_their_field():
    report = SelfInstruct(Model()).run(60)
    stripped = sum(not entry["input"].startswith("Word: ") for entry in report.entries)
    assert 15 < stripped < 45
    assert report.entries == report.entries
    assert all(entry["input"].removeprefix("Word: ").isdigit() for entry in report.entries)


def test_a_task_without_instances_is_counted_and_stays_in_the_pool():
    model = Model(
        examples=lambda prompt: "I do not know." if len(model.asked) < 4 else "Example 1\nInput: x\nOutput: x\n"
    )
    run = SelfInstruct(model, patience=8)
    report = run.run(2)
    assert report.tasks == () and report.entries == []
    assert report.rejected["task"]["no instance in the reply"] == 1
    assert report.rejected["task"]["no instance left"] >= 1
    assert report.rejected["instance"]["output is the input"] == report.rejected["task"]["no instance left"]
    drawn = [name for record in run.journal.records for name in record.get("examples", [])]
    assert "machine_task_0" in drawn or "machine_task_1" in drawn


def test_entries_can_be_saved_read_and_know_their_parents(stand_in, tmp_path):
    report = SelfInstruct(stand_in.StandIn()).run(20)
    save_entries(tmp_path / "entries.json", report.entries)
    entries = load_entries(tmp_path / "entries.json")
    assert entries == report.entries and len({entry["id"] for entry in entries}) == len(entries) >= 20
    known = {task["id"] for task in load_seed_tasks()} | {entry["task"] for entry in entries}
    machine = [name for entry in entries for name in entry["parents"] if name not in known]
    assert {name.rpartition("_")[0] for name in machine} <= {"machine_task"}  # of tasks that got no instance
    assert all(near["rouge_l"] <= 0.7 for entry in entries for near in entry["nearest"])
    assert json.loads(json.dumps(report.to_dict()))["summary"]["n_tasks"] == 20


# ---- when it ends


def test_nonsense_for_ever_ends():
    model = Model("As an AI, I cannot.")
    report = SelfInstruct(model, patience=7).run(10)
    assert report.ended == "no progress: 7 calls without a new task"
    assert len(model.asked) == report.calls == 7 and report.rejected["instruction"] == {"no task in the reply": 7}
    assert report.entries == []


def test_nonsense_about_each_task_ends_too():
    report = SelfInstruct(Model(examples="???")).run(10)
    assert report.ended == "no progress: 30 calls without a new task" and report.calls == 30


@pytest.mark.parametrize("calls", [0, 1, 4, 9])
def test_the_bound_of_calls_is_kept(calls):
    model = Model()
    report = SelfInstruct(Bounded(model, calls=calls)).run(10)
    assert len(model.asked) == report.calls == calls
    assert report.ended.startswith("budget: ") and str(calls) in report.ended
    assert len(report.tasks) == {0: 0, 1: 0, 4: 1, 9: 3}[calls]


def test_the_bound_of_cost_is_kept_and_told(tmp_path):
    bounded = Bounded(Model(), cost=0.01, price=(1.0, 2.0))
    report = SelfInstruct(Cached(bounded, tmp_path / "replies.jsonl", name="model")).run(100)
    assert report.ended.startswith("budget: ") and 0.005 < report.spent <= 0.0101
    assert 0 < len(report.tasks) < 100 and f"spent            {report.spent:>6.4g}" in str(report)


def test_more_budget_goes_on(tmp_path):
    short = SelfInstruct(Bounded(Model(), calls=7), journal=tmp_path / "short.jsonl").run(6)
    assert len(short.tasks) < 6
    on = SelfInstruct(Bounded(Model(), calls=99), journal=tmp_path / "short.jsonl").run(6)
    at_once = SelfInstruct(Model(), journal=tmp_path / "once.jsonl").run(6)
    assert on.ended == "reached 6" and on.entries == at_once.entries
    assert (tmp_path / "short.jsonl").read_bytes() == (tmp_path / "once.jsonl").read_bytes()


def test_a_server_that_is_not_there_is_an_error():
    gone = Scripted(lambda asked: ServerError("nothing listens at 127.0.0.1:9", fatal=True))
    with pytest.raises(ServerError, match="nothing listens at 127.0.0.1:9"):
        SelfInstruct(gone).run(3)


def test_a_server_that_goes_away_ends_the_run_with_what_there_is(tmp_path):
    model = Model()

    def goes(asked):
        if len(model.asked) == 7:
            return ServerError("the connection was refused", fatal=True)
        return model([{"role": "user", "content": asked}])

    run = SelfInstruct(Scripted(goes), journal=tmp_path / "run.jsonl")
    report = run.run(9)
    assert report.ended == "server: the connection was refused"
    assert len(report.tasks) == 2 and report.calls == len(run.journal.records) == 7  # the eighth is asked again


def test_failures_are_counted_and_their_questions_asked_again():
    model, failing = Model(), {2, 3, 6}

    def often(asked):
        reply = model([{"role": "user", "content": asked}])
        return ServerError("busy", passing=True) if len(model.asked) in failing else reply

    run = SelfInstruct(Scripted(often))
    report = run.run(2)
    assert report.ended == "reached 2" and report.failed_calls == 3
    failed = [record for record in run.journal.records if "error" in record]
    assert [record["error"] for record in failed] == ["busy"] * 3
    assert sorted(task.id for task in report.tasks) == ["machine_task_0", "machine_task_1"]


def test_a_question_that_fails_three_times_is_given_up():
    model = Model(kind=lambda prompt: 1 / 0 if re.search("Task: w.*[02468]\nIs it", prompt) else "No")
    run = SelfInstruct(model, patience=99)
    report = run.run(9)
    assert report.ended == "reached 9"
    errors = [record for record in run.journal.records if "error" in record]
    assert {record["error"] for record in errors} == {"ZeroDivisionError: division by zero"}
    assert report.rejected["task"] == {"server failed": len(errors) // 3} and errors
    assert report.failed_calls == len(errors)


def test_ten_failures_in_a_row_end_the_run():
    server = Scripted(lambda asked: ServerError("busy", passing=True))
    run = SelfInstruct(server)
    report = run.run(2)
    assert report.ended == "server: 10 calls in a row failed, the last by: busy"
    assert (report.calls, report.failed_calls, report.tasks) == (10, 10, ())


def test_a_server_that_was_away_is_asked_again_however_long_it_was(tmp_path):
    away = Scripted(lambda asked: ServerError("busy", passing=True), name="model")
    for times in range(1, 5):
        report = SelfInstruct(away, journal=tmp_path / "run.jsonl").run(2)
        assert report.ended.startswith("server: 10 calls in a row") and report.failed_calls == away.calls == 10 * times
    assert SelfInstruct(Model(), journal=tmp_path / "run.jsonl").run(2).ended == "reached 2"


@pytest.mark.parametrize("step", ["classification", "instances"])
def test_thoughts_that_fill_a_reply_are_no_answer(step):
    thought = Reply("<think>\nOkay", "length")
    model = Model(kind=lambda prompt: thought) if step == "classification" else Model(examples=lambda prompt: thought)
    run = SelfInstruct(model, patience=99)
    report = run.run(1)
    assert "max_tokens" in next(record["error"] for record in run.journal.records if record["step"] == step)
    assert report.tasks == () and not any(record.get("is_classification") for record in run.journal.records)


def test_what_cannot_be_written_down_is_a_failure(tmp_path):
    model = Model(examples=lambda prompt: "Example 1\nOutput: half \ud83d" if len(model.asked) < 4 else "Output: whole")
    report = SelfInstruct(model, journal=tmp_path / "run.jsonl").run(1)
    assert report.failed_calls == 1 and [entry["output"] for entry in report.entries] == ["whole"]


# ---- a run that is gone on with


def test_killed_after_any_record_it_goes_on_to_the_same_file(stand_in, tmp_path):
    """With failures of the server, faults of the model, and both kinds of tasks in it."""

    def model():
        reply = stand_in.StandIn()

        def ask(asked):
            if random.Random(f"{asked} fails").random() < 0.08:
                return ServerError("busy", passing=True)
            return reply([{"role": "user", "content": asked}])

        return Scripted(ask)

    whole = tmp_path / "whole.jsonl"
    report = SelfInstruct(model(), journal=whole).run(9)
    lines = whole.read_bytes().splitlines(keepends=True)
    steps = {json.loads(line).get("step") for line in lines[1:]}
    assert steps == {"instructions", "classification", "instances", "labelled instances"} and report.failed_calls
    killed = tmp_path / "killed.jsonl"
    for kept in range(1, len(lines)):
        killed.write_bytes(b"".join(lines[:kept]) + lines[kept][: kept * 7 % len(lines[kept])])
        again = SelfInstruct(model(), journal=killed).run(9)
        assert killed.read_bytes() == whole.read_bytes(), kept
        assert str(again) == str(report) and again.entries == report.entries


def test_ctrl_c_leaves_a_whole_journal(tmp_path):
    model = Model()

    def interrupted(messages):
        if len(model.asked) == 5:
            model.asked.append("")
            raise KeyboardInterrupt
        return model(messages)

    run = SelfInstruct(interrupted, journal=tmp_path / "run.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run.run(4)
    assert len((tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    assert run.run(4).entries == SelfInstruct(Model()).run(4).entries


def test_more_workers_make_the_same_tasks(stand_in):
    alone = SelfInstruct(stand_in.StandIn()).run(12)
    together = SelfInstruct(stand_in.StandIn(), workers=5).run(12)
    assert len(together.tasks) == 12 and together.entries == alone.entries


def test_another_seed_makes_other_tasks_and_the_same_the_same(stand_in):
    first, again, other = (SelfInstruct(stand_in.StandIn(), seed=seed).run(5).entries for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, and is 1"),
        ({"threshold": 0.8}, "threshold was 0.7, and is 0.8"),
        ({"seeds": load_seed_tasks()[:20]}, "seeds was"),
        ({"decoding": {"instances": {"max_tokens": 9}}}, "decoding was"),
    ],
)
def test_a_journal_of_other_settings_is_refused(tmp_path, change, message):
    SelfInstruct(Model(), journal=tmp_path / "run.jsonl").run(1)
    with pytest.raises(ValueError, match=message):
        SelfInstruct(Model(), **change, journal=tmp_path / "run.jsonl")


@pytest.mark.parametrize(
    "record", [{"step": "dance"}, {"step": "instances", "task": "nobody"}, {"no": "step"}, {"step": "instructions"}]
)
def test_a_journal_with_other_records_is_refused(tmp_path, record):
    run = SelfInstruct(Model(), journal=tmp_path / "run.jsonl")
    run.journal.append(record)
    with pytest.raises(ValueError, match=r"run.jsonl, record 1, does not follow"):
        run.run(1)


# ---- doors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": load_seed_tasks()[:7]}, "a prompt shows 8 tasks, .* got 7"),
        ({"seeds": [{"id": "a"}] * 8}, "seed task 1: the seed task has no 'instruction'"),
        ({"seeds": load_seed_tasks()[:8] * 2}, "two seed tasks have the id 'seed_task_0'"),
        ({"threshold": 1.5}, "1.5"),
        ({"patience": 0}, "patience must be a whole number >= 1, got 0"),
        ({"workers": True}, "workers must be a whole number >= 1, got True"),
        ({"decoding": {"step 1": {}}}, "decoding has the steps instructions, .*, got step 1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SelfInstruct(Model(), journal=tmp_path / "run.jsonl", **arguments)
    assert not (tmp_path / "run.jsonl").exists()


def test_other_doors():
    with pytest.raises(TypeError, match="'phi3'"):
        SelfInstruct("phi3")
    with pytest.raises(ValueError, match="n_tasks must be a whole number >= 1, got 0"):
        SelfInstruct(Model()).run(0)


# ---- the stand-in of the lesson


def test_the_stand_in_shows_every_rule(stand_in):
    report = SelfInstruct(stand_in.StandIn()).run(60)
    assert report.ended == "reached 60"
    assert set(report.rejected["instruction"]) >= {
        *("too similar", "after the 15th", "blocked word", "empty", "foreign first", "too short", "too long"),
        *("punctuation first", "write a program", "cut by length"),
    }
    assert set(report.rejected["instance"]) == {
        *("one input, two outputs", "ends with a colon", "empty output", "duplicate", "output is the input"),
    }
    assert sum(not task.instruction.isascii() for task in report.tasks) > 5
    assert 5 < sum(task.is_classification for task in report.tasks) < 20


def test_the_parsers_see_through_the_forms_of_the_stand_in(stand_in):
    """Markdown and talk around the lists change nothing."""
    plain = SelfInstruct(stand_in.StandIn(())).run(20)
    assert [task.instruction for task in plain.tasks]
    for fault in ("markdown", "chatty"):
        report = SelfInstruct(stand_in.StandIn([fault])).run(20)
        assert len(report.tasks) == 20 and set(report.rejected["instruction"]) <= {"too similar"}
        assert not report.rejected["task"]


def test_the_stand_in_solves_what_it_invents(stand_in):
    for skill in stand_in.SKILLS:
        for seed in range(5):
            chance = random.Random(seed)
            instruction = skill.invent(chance)
            found, slots = stand_in.recognise(instruction)
            assert found is skill and skill.solve(slots, chance)
    with pytest.raises(ValueError, match="faults are markdown, .*, got lazy"):
        stand_in.StandIn(["lazy"])
