"""`gptlab judge`: metrics alone, scores and comparisons by a server, from its cache, or from a recorded file."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from command_line import fails, run
from judge_server import JudgeServer, closed_url, status

from gptlab.model import GPTModel
from gptlab.weights import save_checkpoint


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("gptlab.servers.retrying.FIRST_WAIT", 0.01)


@pytest.fixture
def files(tmp_path):
    """Two sets of responses to the same ten tasks: the first is right in all but one."""
    tasks = [{"instruction": f"What is {n} + {n}?", "input": "", "output": str(2 * n)} for n in range(1, 11)]
    sides = {
        "tuned": [task | {"model_response": task["output"], "ended_by": "stop"} for task in tasks],
        "base": [task | {"model_response": "It is 4.", "ended_by": "length"} for task in tasks],
    }
    sides["tuned"][6]["model_response"] = "不知道"
    for name, entries in sides.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return tmp_path


def says(question):
    """A judge that knows right from wrong, and of two responses always takes the first."""
    if "Response B:" in question:
        return "[[A]]"
    reference, response = re.findall(r"output `(.*?)`.*?response `(.*?)`", question, re.DOTALL)[0]
    return "100" if reference == response else "I'd rate this model response as 10 out of 100."


@pytest.fixture
def server():
    with JudgeServer(says) as server:
        yield server


def judge(capsys, files, *arguments):
    return run(capsys, "judge", "--responses", files / "tuned.json", "--quiet", *arguments)


def report_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_metrics_alone(files, capsys):
    code, said, _ = judge(capsys, files)
    assert code == 0
    assert re.search(r"exact match +90\.0%", said)
    report = report_of(files / "tuned.judged.json")
    assert report["metrics"]["exact_match"] == 0.9
    assert report["scores"] is report["comparison"] is report["judge"] is None
    assert report["entries"][6]["response"] == "不知道"
    assert {path.name for path in files.iterdir()} == {"tuned.json", "base.json", "tuned.judged.json"}


def test_scores_and_a_comparison_go_on_from_the_cache(files, capsys, server):
    chosen = ["--server", "ollama", "--url", server.url, "--against", files / "base.json", "--workers", "4"]
    code, said, error = judge(capsys, files, *chosen)
    assert code == 0, error
    report = report_of(files / "tuned.judged.json")
    assert report["judge"]["name"] == "phi3"  # the source's
    assert report["scores"]["summary"]["mean"] == 91
    assert [entry["score"]["score"] for entry in report["entries"]] == [100] * 6 + [10] + [100] * 3
    assert [entry["against"] for entry in report["entries"]] == ["It is 4."] * 10
    assert report["comparison"]["summary"]["agreement"] == report["comparison"]["summary"]["lima"]
    assert report["comparison"]["summary"]["consistency"] == 0  # it always says A
    assert "scores of tuned.json" in said and "A is tuned.json, B is base.json" in said
    asked = len(server.asked)
    assert asked == 10 + 10 + 20
    assert judge(capsys, files, *chosen)[1] == said
    assert len(server.asked) == asked
    replies = files / "tuned.judged.replies.jsonl"
    code, again, _ = judge(capsys, files, "--replay", replies, "--against", files / "base.json")
    assert (code, again) == (0, said)
    assert len(server.asked) == asked


def test_only_what_was_asked_for(files, capsys, server):
    chosen = ["--server", "openai", "--model", "phi3", "--url", server.url, "--against", files / "base.json"]
    code, _, error = judge(capsys, files, *chosen, "--only", "scores")
    assert code == 0, error
    report = report_of(files / "tuned.judged.json")
    assert report["comparison"] is None and report["scores_against"]["summary"]["n_scored"] == 10
    assert judge(capsys, files, *chosen, "--only", "comparison")[0] == 0
    report = report_of(files / "tuned.judged.json")
    assert report["scores"] is None and report["comparison"]["summary"]["n_judged"] == 10


def test_samples_keep_their_numbers(files, capsys):
    assert judge(capsys, files, "--samples", "4", "--against", files / "base.json")[0] == 0
    entries = report_of(files / "tuned.judged.json")["entries"]
    assert len(entries) == 4
    assert [entry["output"] for entry in entries] == [str(2 * entry["number"]) for entry in entries]
    numbers = [entry["number"] for entry in entries]
    assert numbers == sorted(numbers) != [1, 2, 3, 4]
    assert judge(capsys, files, "--samples", "4", "--seed", "1")[0] == 0
    assert [entry["number"] for entry in report_of(files / "tuned.judged.json")["entries"]] != numbers


def test_a_local_checkpoint_judges(files, capsys, tiny, tokenizer, tmp_path):
    """It knows nothing, and its replies hold no score: they stay in their places."""
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "long", GPTModel(replace(tiny.cfg, context_length=1024)).eval(), tokenizer, "alpaca")
    code, _, error = judge(capsys, files, "--server", tmp_path / "long", "--samples", "2")
    assert code == 0, error
    report = report_of(files / "tuned.judged.json")
    assert report["judge"]["kind"] == "local"
    assert [entry["score"]["status"] for entry in report["entries"]] == ["unparsed"] * 2
    assert all(len(entry["score"]["replies"]) == 2 for entry in report["entries"])


def test_perplexity_and_translation(files, capsys, checkpoint_dir):
    code, said, error = judge(capsys, files, "--perplexity-of", checkpoint_dir, "--translation")
    assert code == 0, error
    assert re.search(r"perplexity +\d+\.\d\d  of the outputs, .* 10 measured, 0 too long", said)
    metrics = report_of(files / "tuned.judged.json")["metrics"]
    assert metrics["perplexity"]["measured"] == 10
    assert 0 <= metrics["chrf"] <= 100


def test_a_page(files, capsys):
    page = files / "page.html"
    assert judge(capsys, files, "--html", page)[0] == 0
    assert "不知道" in page.read_text(encoding="utf-8")


def test_ctrl_c_says_how_to_go_on(files, capsys, server, monkeypatch):
    def press(question):
        raise KeyboardInterrupt

    asked = [str, str, str, press]
    monkeypatch.setattr("gptlab.servers.cache.reply_checked", lambda reply, who: asked.pop(0)(reply) and reply)
    code, _, error = judge(capsys, files, "--server", "ollama", "--url", server.url)
    assert code == 130
    assert error.strip().endswith("tuned.judged.replies.jsonl keeps every reply, so the same command goes on")
    assert not (files / "tuned.judged.json").exists()


def test_failures_stay_in_their_places(files, capsys):
    with JudgeServer(says, faults=lambda question: status(500) if "3 + 3" in question else None) as server:
        chosen = ["--server", "ollama", "--url", server.url, "--timeout", "5"]
        code, said, _ = judge(capsys, files, *chosen)
    assert code == 0
    entries = report_of(files / "tuned.judged.json")["entries"]
    assert [entry["score"]["status"] for entry in entries] == ["scored"] * 2 + ["failed"] + ["scored"] * 7
    assert re.search(r"failed +1  the first: ", said)


def test_nobody_is_there(files, capsys):
    url = closed_url()
    error = fails(capsys, "judge", "--quiet", "--responses", files / "tuned.json", "--server", "ollama", "--url", url)
    assert url in error and "ollama serve" in error
    assert not (files / "tuned.judged.json").exists()


def test_a_package_is_missing(files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ollama", None)
    error = fails(capsys, "judge", "--responses", files / "tuned.json", "--server", "ollama")
    assert 'pip install "gptlab[judge]"' in error


def test_a_recorded_file_that_lacks_an_entry(files, capsys, server):
    chosen = ["--server", "ollama", "--url", server.url, "--cache", files / "replies.jsonl"]
    assert judge(capsys, files, *chosen, "--samples", "9")[0] == 0
    error = fails(capsys, "judge", "--quiet", "--responses", files / "tuned.json", "--replay", files / "replies.jsonl")
    left = set(range(1, 11)) - {e["number"] for e in report_of(files / "tuned.judged.json")["entries"]}
    assert f"entry {left.pop()}: " in error and "none to 'What is " in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--key", "answer"], r"entry 1 .*'answer'"),
        (["--against", "shorter.json"], "do not line up: A has 10 entries, B has 9"),
        (["--against", "other.json"], r"do not line up.*\(4\).*entry 4 of A is"),
        (["--only", "scores"], "are for --against"),
        (["--model", "phi3"], "--model is for --server"),
        (["--server", "openai"], "needs --model"),
        (["--server", "nowhere"], "must be ollama, openai or the folder of a checkpoint, got 'nowhere'"),
        (["--replay", "missing.jsonl"], "there is no file"),
        (["--replay", "tuned.json"], "is no file of recorded replies"),
        (["--replay", "shorter.json", "--cache", "x"], "nothing to keep in --cache"),
        (["--out", "tuned.json"], "another file than those that are read"),
        (["--html", "."], "must name a file"),
        (["--out", "one", "--html", "one"], "must be different files"),
    ],
)
def test_wrong_arguments(files, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    base = json.loads((files / "base.json").read_text(encoding="utf-8"))
    (files / "shorter.json").write_text(json.dumps(base[:9]), encoding="utf-8")
    base[3]["instruction"] = "What else?"
    (files / "other.json").write_text(json.dumps(base), encoding="utf-8")
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    assert re.search(message, fails(capsys, "judge", "--responses", "tuned.json", *arguments))
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before
