"""`gptlab build`, as people type it."""

import json
import re

import pytest
from judge_server import JudgeServer

from gptlab.__main__ import main
from gptlab.building import OPERATIONS, Identity, mention_rate
from gptlab.data import load_entries
from gptlab.files import read_json, read_text


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(*arguments):
    return main(["build", *map(str, arguments)])


def fails(capsys, *arguments):
    assert build(*arguments) == 2
    return capsys.readouterr().err


def test_a_corpus_becomes_entries_and_what_is_held_out_stays_out(capsys):
    assert build("tiny-corpus", "--out", "pairs.tsv", "--count", 60) == 0
    held_out = ["--test-share", 0.2, "--test-templates", 3, "--test-out", "test.json"]
    assert build("templates", "--pairs", "pairs.tsv", "--out", "train.json", *held_out) == 0
    train, test = load_entries("train.json"), load_entries("test.json")
    assert "96 entries are in train.json\n24 entries are in test.json" in capsys.readouterr().out
    assert not {entry["pair"] for entry in train} & {entry["pair"] for entry in test}
    assert not {entry["template"] for entry in train} & {entry["template"] for entry in test}
    assert len({entry["template"] for entry in test}) <= 3
    assert {(entry["src_lang"], entry["tgt_lang"]) for entry in train} == {
        ("English", "Chinese"),
        ("Chinese", "English"),
    }


def test_a_held_out_template_that_does_not_fit_is_told_before_anything_is_written(here, capsys):
    build("tiny-corpus", "--out", "pairs.tsv", "--count", 20)
    (here / "mine.txt").write_text("Put [input] into [tgt_lang].\nSay [input] in [dialect].\n", encoding="utf-8")
    options = ["--templates", "mine.txt", "--test-templates", 1, "--test-out", "test.json", "--out", "train.json"]
    for seed in range(4):  # whichever of the two is held out
        assert "[dialect] is not known" in fails(capsys, "templates", "--pairs", "pairs.tsv", *options, "--seed", seed)
    assert sorted(path.name for path in here.iterdir()) == ["mine.txt", "pairs.tsv"]


def test_any_two_columns_with_templates_of_ones_own(here, capsys):
    (here / "qa.csv").write_text("question,answer\nWho?,Nobody\nWho?,Nobody\n谁？,没人\n", encoding="utf-8")
    (here / "mine.txt").write_text("# mine\nPlease answer: [question]\n", encoding="utf-8")
    columns = ["--source", "question", "--target", "answer", "--one-direction", "--templates", "mine.txt"]
    assert build("templates", "--pairs", "qa.csv", *columns, "--layout", "inside", "--out", "out.json") == 0
    assert "1 pairs were there twice" in capsys.readouterr().out
    assert [entry["instruction"] for entry in load_entries("out.json")] == [
        "Please answer: Who?",
        "Please answer: 谁？",
    ]


def test_one_answer_may_stand_on_both_sides_of_the_split(here):
    rows = [f"Is {number} odd?\t{'yes' if number % 2 else 'no'}" for number in range(20)]
    (here / "odd.tsv").write_text("\n".join(["source\ttarget", *rows]), encoding="utf-8")
    (here / "mine.txt").write_text("Say it: [input]\n", encoding="utf-8")
    options = ["--one-direction", "--templates", "mine.txt", "--test-share", 0.2, "--test-out", "test.json"]
    assert build("templates", "--pairs", "odd.tsv", *options, "--out", "train.json") == 0
    assert (len(load_entries("train.json")), len(load_entries("test.json"))) == (16, 4)


def test_corrected_answers_become_entries(here):
    talk = [
        {"role": "user", "content": "Where is Fenn?"},
        {"role": "assistant", "content": "Far away."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "A model."},
    ]
    (here / "before.json").write_text(json.dumps(talk), encoding="utf-8")
    talk[1] = {"role": "assistant", "content": "By the river."}
    (here / "after.json").write_text(json.dumps(talk), encoding="utf-8")
    assert build("corrections", "--chat", "after.json", "--original", "before.json", "--out", "out.json") == 0
    [entry] = load_entries("out.json")
    assert (entry["instruction"], entry["output"]) == ("Where is Fenn?", "By the river.")


def test_a_name_for_the_model():
    names = ["--name", "Wild Goose", "--name-zh", "雁栖", "--developer", "Ada", "--abilities", "translate sentences"]
    chinese = ["--developer-zh", "艾达", "--abilities-zh", "翻译句子"]
    assert build("identity", *names, *chinese, "--out", "me.json", "--test-out", "test.json") == 0
    me = Identity({"en": "Wild Goose", "zh": "雁栖"}, {"en": "Ada", "zh": "艾达"}, {"en": "translate", "zh": "翻译"})
    entries = load_entries("me.json")
    asked = [entry["output"] for entry in entries if entry["kind"] == "name"]
    others = [entry["output"] for entry in entries if entry["kind"] == "negative"]
    assert mention_rate(asked, me) == 1 and mention_rate(others, me) == 0
    assert not {entry["instruction"] for entry in entries} & {
        entry["instruction"] for entry in load_entries("test.json")
    }


def test_several_sets_in_one_file(here, capsys):
    for name in "ab":
        entries = [{"instruction": f"{name}{number}", "output": "x"} for number in range(10)]
        (here / f"{name}.json").write_text(json.dumps(entries), encoding="utf-8")
    assert build("mix", "a.json", "b.json:3", "--out", "both.json") == 0
    assert "10 of a.json\n       3 of b.json\n13 entries are in both.json" in capsys.readouterr().out
    mixed = [entry["instruction"] for entry in load_entries("both.json")]
    assert len(set(mixed)) == 13 and mixed != sorted(mixed)
    assert "has 10 entries, so 11 cannot be drawn" in fails(capsys, "mix", "a.json:11", "--out", "c.json")


def model(asked):
    """Answer as a model would that is asked for tasks, about a task, or for harder ones."""
    if asked.startswith("Come up with a series"):
        return (
            " Name a fruit that grows on trees.\n10. Say how bread is made at home.\n11. Say how bread is made at home."
        )
    if "Rewritten Prompt" in asked or "Created Prompt" in asked:
        return f"Name {len(asked)} fruits, and say why."
    if "Equal" in asked:
        return "Not Equal"
    if asked.endswith("classification?"):
        return "No"
    if "List of" in asked:
        return "4. Put [input] into [tgt_lang], please.\n5. **Translate** [input].\n6. [tgt_lang], please: [input]"
    return "Example 1\nOutput: A fig grows on a tree."


@pytest.fixture
def ollama():
    with JudgeServer(model) as server:
        yield ["--server", "ollama", "--url", server.url, "--quiet"], server


def test_self_instruct_goes_on_from_its_journal(ollama, capsys):
    asking, server = ollama
    assert build("self-instruct", "--out", "made.json", "--count", 2, "--calls", 2, *asking) == 0
    assert "budget" in capsys.readouterr().out and read_json("made.json") == []
    assert build("self-instruct", "--out", "made.json", "--count", 2, *asking) == 0
    said = capsys.readouterr().out
    assert re.search(r"ended +reached 2", said) and "too similar" in said
    assert [entry["output"] for entry in load_entries("made.json")] == ["A fig grows on a tree."] * 2
    asked = len(server.requests)
    assert build("self-instruct", "--out", "made.json", "--count", 2, *asking) == 0
    assert len(server.requests) == asked


def bodies(server):
    """Return what was asked: how it begins, with the options of the request."""
    asked = [request.body for request in server.requests if "messages" in request.body]
    return [(body["messages"][-1]["content"][:12], body["options"]) for body in asked]


def test_temperature_and_room_for_thoughts_reach_the_server(here, ollama):
    asking, server = ollama
    assert build("self-instruct", "--out", "a.json", "--count", 1, *asking) == 0
    (first, published), (_, kind), (_, made) = bodies(server)
    assert (first, published["temperature"], published["num_predict"]) == ("Come up with", 0.7, 1024)
    assert (kind["temperature"], kind["num_predict"], made["num_predict"]) == (0, 3, 350)
    other = ["--temperature", 0.9, "--thinking", 500]
    assert build("self-instruct", "--out", "b.json", "--count", 1, *other, *asking) == 0
    (_, warm), (_, kind), _ = bodies(server)[3:]
    assert (warm["temperature"], kind["temperature"], kind["num_predict"]) == (0.9, 0, 503)
    assert build("self-instruct", "--out", "c.json", "--count", 1, "--temperature", "none", *asking) == 0
    assert not any("temperature" in options for _, options in bodies(server)[6:])
    (here / "few.json").write_text(json.dumps([{"instruction": "Name a fruit.", "output": "A fig."}]), encoding="utf-8")
    evol, before = ["evol-instruct", "--entries", "few.json", "--rounds", 1], len(bodies(server))
    assert (
        build(*evol, "--out", "d.json", *asking) == build(*evol, "--out", "e.json", "--temperature", 0.5, *asking) == 0
    )
    assert build(*evol, "--out", "f.json", "--temperature", "none", *asking) == 0
    assert [options.get("temperature") for _, options in bodies(server)[before:]] == [1, 1, 0, 0.5, 0.5, 0, *[None] * 3]


@pytest.mark.parametrize("part", ["evol-instruct", "more-templates"])
def test_no_option_is_there_that_does_nothing(part, capsys):
    with pytest.raises(SystemExit):
        build(part, "--entries", "few.json", "--out", "x.json", "--workers", 3)
    assert "--workers" in capsys.readouterr().err


def test_evol_instruct_writes_a_tree(here, ollama, capsys):
    asking, _ = ollama
    (here / "few.json").write_text(json.dumps([{"instruction": "Name a fruit.", "output": "A fig."}]), encoding="utf-8")
    given = ["--entries", "few.json", "--rounds", 2, "--operations", f"{OPERATIONS[0]},{OPERATIONS[1]}"]
    assert build("evol-instruct", *given, "--tree", "--out", "out.json", *asking) == 0
    said = capsys.readouterr().out
    assert "Name a fruit." in said and "out.json" in said
    assert load_entries("out.json")[0]["instruction"] == "Name a fruit."


def test_more_templates_come_with_what_was_wrong(ollama, capsys):
    asking, _ = ollama
    assert build("more-templates", "--out", "more.txt", "--count", 2, *asking) == 0
    lines = read_text("more.txt").splitlines()
    assert "Put [input] into [tgt_lang], please." in lines and "[tgt_lang], please: [input]" in lines
    assert "lacks [tgt_lang]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["self-instruct", "--out", "x.json"], "who shall be asked?"),
        (["self-instruct", "--out", "x.json", "--server", "ollama", "--cost", "1"], "needs a price"),
        (["self-instruct", "--out", "x.json", "--server", "nobody"], "must be ollama, openai or the folder"),
        (["self-instruct", "--out", "x.json", "--server", "ollama", "--journal", "x.replies.jsonl"], "different files"),
        (["templates", "--pairs", "none.tsv", "--out", "x.json"], "no file none.tsv"),
        (["templates", "--pairs", "p.tsv", "--out", "x.json", "--test-share", "0.1"], "--test-out is for"),
        (["templates", "--pairs", "p.tsv", "--out", "p.tsv"], "another file than those that are read"),
        (["tiny-corpus", "--out", "x.doc"], "must end in .tsv or .json"),
        (["identity", "--name", "a\nb", "--developer", "c", "--abilities", "d", "--out", "x.json"], "name"),
    ],
)
def test_wrong_arguments_write_nothing(here, capsys, arguments, says):
    (here / "p.tsv").write_text("source\ttarget\na\tb\n", encoding="utf-8")
    assert says in fails(capsys, *arguments)
    assert [path.name for path in here.iterdir()] == ["p.tsv"]


def test_entries_about_itself_that_a_model_wrote(capsys):
    def writer(asked):
        assert "Wren" in asked
        said = ["I am Wren, made by Ada.", "I am Wren.", "I was made by Ada and am called Wren."]
        objects = [
            json.dumps({"instruction": f"Who is it, {number}?", "output": text}) for number, text in enumerate(said)
        ]
        return f"<think>{objects[0].replace('0?', '9?')}</think>\n" + "\n".join(objects)

    names = ["--name", "Wren", "--developer", "Ada", "--abilities", "counting", "--languages", "en", "--count", 2]
    with JudgeServer(writer) as server:
        asking = ["--server", "ollama", "--url", server.url, "--quiet"]
        assert build("more-identity", *names, "--out", "more.json", *asking) == 0
    assert [entry["instruction"] for entry in load_entries("more.json")] == ["Who is it, 0?", "Who is it, 2?"]
    assert "developer" in capsys.readouterr().out
