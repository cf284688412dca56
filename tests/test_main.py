"""The command line, as its user meets it: exit codes, one clear line, files whole or not there."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from command_line import fails, run, tree

from gptlab import __main__ as cli
from gptlab import demo
from gptlab.building import entries_from_corrections
from gptlab.chat import run_chat
from gptlab.data import ConversationDataset, find_format, load_entries
from gptlab.decoding import ChatSession, Response
from gptlab.training import finetune, gradients, loop
from gptlab.training.finetune import _split
from gptlab.weights import load_checkpoint


@pytest.fixture
def data(tmp_path, entries):
    path = tmp_path / "entries.json"
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


def test_finetune_then_generate(checkpoint_dir, data, entries, tmp_path, capsys):
    out = tmp_path / "tuned"
    options = ["--epochs", "3", "--learning-rate", "5e-3", "--batch-size", "4", "--quiet"]
    code, told, _ = run(capsys, "finetune", "--model", checkpoint_dir, "--data", data, "--out", out, *options)
    assert code == 0
    assert "18 entries to train on, 2 to validate; 0 dropped and 0 cut" in told
    assert told.count("validation loss") == 3
    assert load_checkpoint(out).template.name == "alpaca_short"
    assert not load_checkpoint(out).model.tok_emb.weight.equal(load_checkpoint(checkpoint_dir).model.tok_emb.weight)

    code, answer, _ = run(capsys, "generate", "--model", out, "Say the number 3.")
    assert code == 0
    assert answer.strip()
    answers = tmp_path / "answers" / "a.json"
    code, told, _ = run(capsys, "generate", "--model", out, "--data", data, "--out", answers, "--quiet")
    assert code == 0
    assert told.startswith(f"20 responses are in {answers} (ended by: ")
    saved = load_entries(answers, needs=["instruction", "output", "model_response"])
    added = {"model_response", "ended_by"}
    assert [{key: value for key, value in entry.items() if key not in added} for entry in saved] == entries
    assert saved[3]["model_response"] == answer.strip()


def test_finetune_with_another_template_remembers_it(checkpoint_dir, data, tmp_path, capsys):
    template = tmp_path / "short.json"
    template.write_text(
        json.dumps(
            {"prompt_input": "{instruction} {input}:", "prompt_no_input": "{instruction}:", "response_split": ":"}
        ),
        encoding="utf-8",
    )
    arguments = ["finetune", "--model", checkpoint_dir, "--data", data, "--out", tmp_path / "o", "--epochs", "1"]
    assert run(capsys, *arguments, "--template", template, "--train-on", "all", "--quiet")[0] == 0
    template.unlink()
    assert load_checkpoint(tmp_path / "o").template.prompt({"instruction": "a", "input": "b"}) == "a b:"


def test_an_exported_checkpoint_answers_alike(checkpoint_dir, tmp_path, capsys):
    out = tmp_path / "exported"
    code, told, _ = run(capsys, "export", "--model", checkpoint_dir, "--out", out)
    assert code == 0
    assert str(out) in told
    ours, theirs = load_checkpoint(checkpoint_dir).model, load_checkpoint(out).model
    ids = torch.arange(12).view(1, 12)
    assert theirs(ids).equal(ours(ids))
    assert load_checkpoint(out).template.name == "alpaca_short"
    other = tmp_path / "other"
    shutil.copytree(checkpoint_dir, other)
    assert "holds another model, which the export" in fails(capsys, "export", "--model", checkpoint_dir, "--out", other)
    assert run(capsys, "generate", "--model", out, "Where is Fenn?", "--max-new-tokens", "4")[0] == 0
    assert "no checkpoint" in fails(capsys, "export", "--model", tmp_path, "--out", out)


def test_the_same_seed_tunes_the_same_model(checkpoint_dir, data, tmp_path, capsys):
    for name in ("a", "b"):
        arguments = ["--model", checkpoint_dir, "--data", data, "--out", tmp_path / name, "--epochs", "1", "--quiet"]
        run(capsys, "finetune", *arguments)
    trees = [tree(tmp_path / name) for name in ("a", "b")]
    for files in trees:
        del files["metrics.jsonl"]  # holds seconds
    assert trees[0] == trees[1]


def typing(*lines):
    """Return an `input` that gives these lines, and then the end of the file."""
    left = iter(lines)

    def typed(prompt):
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return typed


def test_chat_answers_line_by_line_and_survives_a_long_one(checkpoint_dir, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", typing("Where is Fenn?", "", "x" * 500, "\udcff", "And the mill?"))
    code, told, error = run(capsys, "chat", "--model", checkpoint_dir, "--max-new-tokens", "5")
    assert (code, error) == (0, "")
    assert "(prompt too long: the context holds 160 tokens)" in told
    assert "surrogate" in told


def test_ctrl_c_stops_an_answer_and_not_the_chat(checkpoint_dir, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", typing("one", "two"))
    answers = iter([True, False])

    def ask(session, line):
        yield "Be"
        if next(answers):
            raise KeyboardInterrupt
        yield "ginning"
        return Response("Beginning", "stop")

    monkeypatch.setattr("gptlab.decoding.ChatSession.ask", ask)
    code, told, error = run(capsys, "chat", "--model", checkpoint_dir)
    assert (code, error) == (0, "")
    assert told.splitlines()[2:] == ["Be (stopped; this question is forgotten)", "Beginning", ""]


def test_ctrl_c_between_two_answers_only_says_how_to_end(checkpoint_dir, monkeypatch, capsys):
    keys = iter([KeyboardInterrupt, EOFError])

    def pressing(prompt):
        raise next(keys)

    monkeypatch.setattr("builtins.input", pressing)
    code, told, error = run(capsys, "chat", "--model", checkpoint_dir, "--history")
    assert (code, error) == (0, "")
    assert told.splitlines()[1:] == ["", "(Ctrl-D ends)" if os.name != "nt" else "(Ctrl-Z and Enter ends)", ""]


@pytest.fixture
def talks(tmp_path):
    talk = [("Where does Lumika live?", "In Fenn."), ("And her pet?", "A goat.")]
    messages = [{"role": role, "content": text} for pair in talk for role, text in zip(("user", "assistant"), pair)]
    path = tmp_path / "talks.json"
    path.write_text(json.dumps([messages] * 20), encoding="utf-8")
    return path


def test_finetune_on_conversations_then_chat(checkpoint_dir, talks, tmp_path, monkeypatch, capsys):
    out = tmp_path / "talking"
    options = ["--template", "chatml", "--epochs", "20", "--learning-rate", "5e-3", "--batch-size", "6", "--quiet"]
    code, told, error = run(capsys, "finetune", "--model", checkpoint_dir, "--data", talks, "--out", out, *options)
    assert (code, error) == (0, "")
    assert "18 conversations to train on, 2 to validate; 0 dropped and 0 turns left out for the length of 161" in told
    tuned = load_checkpoint(out)
    assert {"<|im_start|>", "<|im_end|>"} <= tuned.tokenizer.special_tokens_set
    assert (
        tuned.model.cfg.vocab_size
        == tuned.tokenizer.n_vocab
        == load_checkpoint(checkpoint_dir).model.cfg.vocab_size + 2
    )
    assert tuned.template.name == "chatml"

    saved = tmp_path / "said.json"
    lines = ["Where does Lumika live?", "And her pet?", f"/save {saved}", "/clear", f"/load {saved}", "And her pet?"]
    monkeypatch.setattr("builtins.input", typing(*lines))
    code, told, error = run(capsys, "chat", "--model", out, "--max-new-tokens", "20")
    assert (code, error) == (0, "")
    said = ["In Fenn.", "A goat.", f"(2 turns saved to {saved})", "(cleared)", f"(2 turns read from {saved})"]
    length = tuned.template.tuned_length
    assert told.splitlines()[1].endswith(f"an answer; --max-context {length} shows no more.")
    assert told.splitlines()[2:7] == said
    code, told, _ = run(capsys, "generate", "--model", out, "Where does Lumika live?", "--max-new-tokens", "20")
    assert (code, told) == (0, "In Fenn.\n")


@pytest.mark.parametrize("arrangement", ["per_session", "per_turn"])
def test_conversations_without_new_tokens(checkpoint_dir, talks, tmp_path, capsys, arrangement):
    out, options = tmp_path / "talking", ["--template", "dialogue", "--arrangement", arrangement, "--epochs", "1"]
    arguments = ["--model", checkpoint_dir, "--data", talks, "--out", out, "--no-special-tokens", "--quiet", *options]
    code, told, error = run(capsys, "finetune", *arguments)
    assert (code, error) == (0, "")
    counts = ("18 conversations", "2") if arrangement == "per_session" else ("36 turns of conversations", "4")
    assert f"{counts[0]} to train on, {counts[1]} to validate" in told
    assert load_checkpoint(out).model.cfg == load_checkpoint(checkpoint_dir).model.cfg
    again = run(capsys, "finetune", *arguments, "--resume")
    assert (again[0], "finished" in again[1]) == (0, True)


def test_validation_holds_no_part_of_a_conversation_that_is_trained_on(checkpoint_dir, tmp_path):
    start = load_checkpoint(checkpoint_dir)
    talks = [[("user", f"{n}?"), ("assistant", f"{n}."), ("user", f"{n}!"), ("assistant", "Yes.")] for n in range(10)]
    records = [[{"role": role, "content": text} for role, text in talk] for talk in talks]
    form = find_format("dialogue")
    dataset = ConversationDataset(records, start.tokenizer, format=form, arrangement="per_turn")
    training, validation = _split(dataset, 0.3, 0, print)
    assert (len(training), len(validation)) == (14, 6)

    def conversations(examples):
        return {start.tokenizer.decode(example.ids).split("?")[0] for example in examples}

    assert not conversations(training) & conversations(validation)


def test_a_refused_finetune_leaves_the_checkpoint_as_it_was(checkpoint_dir, talks, tmp_path):
    start, records = load_checkpoint(checkpoint_dir), json.loads(talks.read_text(encoding="utf-8"))
    before = start.model.cfg
    for wrong, error in [
        ({"val_share": 0.001}, "splits 20 entries into 20 and 0"),
        ({"too_long": "cut"}, "is not for conversations"),
        ({"loss_on": "x"}, "loss_on must be one of"),
        ({"text": ["a b c"], "text_share": 2.0}, "text_share must be between 0 and 1"),
    ]:
        with pytest.raises(ValueError, match=error):
            finetune(start, records, tmp_path / "out", **{"template": "moss", **wrong})
    assert start.model.cfg == before
    finetune(start, records, tmp_path / "out", template="chatml", epochs=1, loss_on="all")
    assert start.model.cfg.vocab_size == before.vocab_size + 2
    with pytest.raises(ValueError, match="too_long is 'raise': 0 dropped and"):
        long = [[*records[0], {"role": "user", "content": "x" * 300}, {"role": "assistant", "content": "y"}]] * 4
        finetune(load_checkpoint(checkpoint_dir), long, tmp_path / "b", template="dialogue", too_long="raise")
    entries = [{"instruction": "a", "context": "", "response": "b"}] * 9
    with pytest.raises(ValueError, match="loss_on is for conversations, got 'all'"):
        finetune(load_checkpoint(checkpoint_dir), entries, tmp_path / "c", loss_on="all")
    finetune(load_checkpoint(checkpoint_dir), entries, tmp_path / "c", epochs=1)  # Dolly's records


def test_the_chats_options_reach_the_session(checkpoint_dir, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("gptlab.chat.run_chat", lambda session, **options: made.append((session, options)))
    options = ["--system", "Be kind.", "--max-context", "50", "--temperature", "0.5", "--template", "chatml"]
    assert run(capsys, "chat", "--model", checkpoint_dir, *options)[0] == 0
    [(session, shown)] = made
    assert (session.system, session.max_context, session.format) == ("Be kind.", 50, find_format("chatml"))
    assert session.settings()["temperature"] == 0.5
    assert shown["remembers"]


def test_text_is_mixed_in_against_forgetting(checkpoint_dir, data, tmp_path, capsys):
    text = tmp_path / "corpus.txt"
    text.write_text("The mill stands by the river.\n\nFenn has a market.\n\n" * 20, encoding="utf-8")
    arguments = ["--model", checkpoint_dir, "--data", data, "--out", tmp_path / "out", "--epochs", "2", "--quiet"]
    code, told, error = run(capsys, "finetune", *arguments, "--text", text, "--text-share", "0.5")
    assert (code, error) == (0, "")
    rows = {line.split()[0]: line.split() for line in told.splitlines() if line.startswith(("tuning", "text"))}
    assert rows["tuning"][1:4] == ["18", "50.0%", "2.00"]
    assert rows["text"][2] == "50.0%"
    wrong = [
        ("--text-share", "1", "text_share must be between 0 and 1, got 1.0"),
        ("--max-tokens", "999", "max_tokens"),
    ]
    for option, value, message in wrong:
        options = [*arguments[:4], "--out", tmp_path / "other", "--quiet", "--text", text, option, value]
        assert message in fails(capsys, "finetune", *options)
    assert "there is no file" in fails(capsys, "finetune", *arguments, "--text", tmp_path / "nowhere.txt")


def test_wrong_conversations_and_settings_are_said(checkpoint_dir, talks, tmp_path, capsys):
    arguments = ["finetune", "--model", checkpoint_dir, "--data", talks, "--out", tmp_path / "out", "--quiet"]
    assert "too_long='cut' is not for conversations" in fails(capsys, *arguments, "--too-long", "cut")
    content = json.loads(talks.read_text(encoding="utf-8"))
    content[3] = content[3][1:]
    talks.write_text(json.dumps(content), encoding="utf-8")
    assert "record 4: message 1 is from the assistant" in fails(capsys, *arguments)
    talks.write_text(json.dumps([content[0], content[0][:3]]), encoding="utf-8")
    assert "conversation 2: turn 2 has no answer" in fails(capsys, *arguments)
    talks.write_text(json.dumps([[{"role": "user", "content": "x" * 900}, {"role": "assistant", "content": "y"}]]))
    assert "no conversation to train on: 1 given, 1 dropped and 0 turns" in fails(capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_commands_of_the_chat(checkpoint_dir, tmp_path, monkeypatch, capsys):
    missing, talked, other = (tmp_path / name for name in ("missing.json", "talked.txt", "other.txt"))
    talked.write_text('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]', encoding="utf-8")
    other.write_text("{}", encoding="utf-8")
    lines = {
        "/help": "/clear             forget",
        "/settings temperature 0.5": "temperature         0.5",
        "/settings top-k = 7": "top_k               7",
        "/settings moss": "repetition_penalty  1.02",
        "/settings top_k none": "temperature         0.7",
        "/settings temperature none": "repetition_penalty  1.02",
        "/settings seed -1": "(seed must be a whole number >= 0, got -1)",
        "/settings top_p 7": "(top_p must be in [0, 1], got 7)",
        "/settings heat 7": "(no setting is called 'heat'; there are max_new_tokens, temperature",
        "/settings temperature hot": "(/settings temperature needs a number or none, got 'hot')",
        "/save": "(/save needs a file)",
        f"/save {tmp_path / 'said.json'}": "(there is nothing to save: nothing was said yet)",
        f"/load {missing}": f"(there is no file {missing})",
        f"/load {talked}": "(1 turns read from",
        f"/save {other}": f"({other} holds something else: ",
        "/dance": "(no command is called /dance; /help tells them all)",
    }
    monkeypatch.setattr("builtins.input", typing(*lines))
    code, told, error = run(capsys, "chat", "--model", checkpoint_dir, "--history")
    assert (code, error) == (0, "")
    place = 0
    for expected in lines.values():
        place = told.index(expected, place) + 1
    assert list(tmp_path.glob("*.json")) == []
    monkeypatch.setattr("builtins.input", typing("/load x.json"))
    _, told, _ = run(capsys, "chat", "--model", checkpoint_dir)
    assert "(each line is answered alone, so there is nothing to go on with" in told


def test_how_tokens_are_chosen_can_be_said(checkpoint_dir, capsys):
    def answer(*more):
        code, told, error = run(capsys, "generate", "--model", checkpoint_dir, "Where is Fenn?", *more)
        assert (code, error) == (0, "")
        return told

    sampling = ["--temperature", "2", "--top-k", "50", "--top-p", "0.99", "--min-p", "0.001", "--max-new-tokens", "9"]
    greedy = answer("--max-new-tokens", "9")
    assert answer(*sampling, "--seed", "1") == answer(*sampling, "--seed", "1") != answer(*sampling, "--seed", "2")
    assert answer("--temperature", "5", "--top-k", "1", "--max-new-tokens", "9") == greedy
    assert answer("--repetition-penalty", "5", "--max-new-tokens", "9") != greedy
    model = ["generate", "--model", checkpoint_dir, "Where?"]
    assert "temperature must be >= 0 and finite, got -1.0" in fails(capsys, *model, "--temperature=-1")
    assert "top_p must be in [0, 1], got 1.5" in fails(capsys, *model, "--temperature=1", "--top-p", "1.5")
    assert "top_k must be in [1, 300]" in fails(capsys, *model, "--temperature=1", "--top-k", "301")


@pytest.mark.filterwarnings("ignore:this PyTorch or processor lacks")
@pytest.mark.parametrize("weights", ["packed", "half", "int8"])
def test_a_prepared_model_answers(checkpoint_dir, weights, capsys):
    question = ["generate", "--model", checkpoint_dir, "Where is Fenn?", "--max-new-tokens", "5"]
    told = run(capsys, *question, "--weights", weights)
    assert told[0] == 0
    assert weights != "packed" or told == run(capsys, *question)


WRONG_DATA = [
    (None, r"nowhere.json"),
    ("oops", "is not JSON"),
    ("{}", "must hold a JSON list"),
    ("[]", "holds no entries"),
    ('[{"instruction": "a", "output": "b"}, {"instruction": "c"}]', "entry 2 has no 'output'"),
    ('[{"instruction": "a", "output": "b"}]', "1 entries into 1 and 0"),
    ("[" * 100_000, "is not JSON"),
    ('[{"instruction": "a", "output": "\\ud83d"}]', "entry 1, 'output': character 0 is"),
    (
        '[{"instruction": "' + "a " * 300 + '", "output": "b"}]',
        "no entry to train on",
    ),
]


@pytest.mark.parametrize(("content", "message"), WRONG_DATA)
def test_wrong_data(checkpoint_dir, tmp_path, capsys, content, message):
    path = tmp_path / "nowhere.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    before = tree(tmp_path)
    arguments = ["--model", checkpoint_dir, "--data", path, "--out", tmp_path / "out", "--val-share", "0.5", "--quiet"]
    if "into" in message:
        arguments[-2] = "0.1"
    assert message in fails(capsys, "finetune", *arguments)
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model", "missing", "is neither a folder nor a model"),
        ("--model", "entries.json", "entries.json is no checkpoint"),
        ("--out", "entries.json/tuned", "entries.json is a file"),
        ("--val-share", "1.5", "a share in [0, 1), or from 1 a whole number of entries, got 1.5"),
        ("--learning-rate", "-1", "positive and finite, got -1.0"),
        ("--template", "alpacca", "no template is called 'alpacca'"),
        ("--device", "gpu", "got 'gpu'"),
        ("--too-long", "raise", None),
    ],
)
def test_wrong_settings_of_finetune(checkpoint_dir, data, tmp_path, capsys, monkeypatch, option, value, message):
    monkeypatch.chdir(tmp_path)
    arguments = {"--model": checkpoint_dir, "--data": data, "--out": "out", "--batch-size": 2, "--epochs": 1}
    arguments[option] = value
    flat = [part for pair in arguments.items() for part in pair]
    if message is None:
        assert run(capsys, "finetune", *flat, "--quiet")[0] == 0
    else:
        assert message in fails(capsys, "finetune", *flat, "--quiet")
        assert not (tmp_path / "out").exists()


def test_what_is_cut_or_left_out_is_said(checkpoint_dir, data, entries, tmp_path, capsys):
    long = {"instruction": "Tell.", "output": "the mill " * 60}
    data.write_text(json.dumps([*entries, long, long]), encoding="utf-8")
    arguments = ["--model", checkpoint_dir, "--data", data, "--out", tmp_path / "out", "--epochs", "1", "--quiet"]
    _, told, _ = run(capsys, "finetune", *arguments)
    assert "2 dropped and 0 cut for the context of 160 (the longest has" in told
    _, told, _ = run(capsys, "finetune", *arguments, "--too-long", "cut")
    assert "0 dropped and 2 cut" in told
    error = fails(capsys, "finetune", *arguments, "--too-long", "raise")
    assert error.startswith("gptlab: entry 21 has")  # its number in the file


def test_a_diverging_training_keeps_the_last_epoch(checkpoint_dir, data, tmp_path, capsys, monkeypatch):
    real, steps = gradients.next_token_loss, []

    def breaking(model, inputs, targets, documents=None):
        total, count = real(model, inputs, targets)
        if torch.is_grad_enabled():
            steps.append(1)
        return (total * float("nan") if len(steps) == 5 else total), count

    # foresee takes steps to measure them
    monkeypatch.setattr(sys.modules["gptlab.training.finetune"], "foresee", lambda *_, **__: "")
    monkeypatch.setattr(gradients, "next_token_loss", breaking)
    out = tmp_path / "out"
    arguments = [
        "--model",
        checkpoint_dir,
        "--data",
        data,
        "--out",
        out,
        "--batch-size",
        "6",
        "--epochs",
        "3",
        "--quiet",
    ]
    assert "stopped at step 5: loss is nan" in fails(capsys, "finetune", *arguments)
    assert load_checkpoint(out).model.tok_emb.weight.isfinite().all()


def test_generate_needs_one_thing_to_answer(checkpoint_dir, data, tmp_path, capsys):
    model = ["generate", "--model", checkpoint_dir]
    assert "either a PROMPT or --data" in fails(capsys, *model)
    assert "either a PROMPT or --data" in fails(capsys, *model, "a", "--data", data, "--out", tmp_path / "o.json")
    assert "go together" in fails(capsys, *model, "--data", data)
    assert "another file than --data" in fails(capsys, *model, "--data", data, "--out", data)
    assert "is a directory" in fails(capsys, *model, "--data", data, "--out", tmp_path)
    assert "--input goes with PROMPT" in fails(capsys, *model, "--data", data, "--out", tmp_path / "o", "--input", "x")
    assert "surrogate" in fails(capsys, *model, "a\udcff")
    assert "longer than the context of 160" in fails(capsys, *model, "x" * 300)


def test_one_long_prompt_does_not_cost_the_others_their_answers(checkpoint_dir, data, entries, tmp_path, capsys):
    data.write_text(json.dumps([entries[0], {"instruction": "x" * 300}, entries[1]]), encoding="utf-8")
    arguments = ["--model", checkpoint_dir, "--data", data, "--out", tmp_path / "o.json", "--quiet"]
    code, told, _ = run(capsys, "generate", *arguments)
    assert code == 0
    assert "1 prompt too long" in told
    saved = load_entries(tmp_path / "o.json", needs=["instruction", "ended_by"])
    assert [entry["ended_by"] == "prompt too long" for entry in saved] == [False, True, False]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--epochs", "0"), ("--batch-size", "x"), ("--seed", "9" * 25), ("--seed", "-1"), ("--out", ""), ("--model", "")],
)
def test_impossible_options_are_refused_by_the_parser(capsys, option, value):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["finetune", "--model", "m", "--data", "d", "--out", "o", option, value])
    assert stopped.value.code == 2
    assert option in capsys.readouterr().err


def test_a_rate_that_breaks_the_model_saves_nothing(checkpoint_dir, data, tmp_path, capsys):
    arguments = ["--model", checkpoint_dir, "--data", data, "--out", tmp_path / "out", "--epochs", "1", "--quiet"]
    assert "training stopped at step" in fails(capsys, "finetune", *arguments, "--learning-rate", "1e30")
    arguments += ["--batch-size", "100"]  # one step, after which no other batch shows the damage
    assert "validation loss is nan" in fails(capsys, "finetune", *arguments, "--learning-rate", "1e30")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.jsonl"]


def test_ctrl_c_is_not_an_accident(monkeypatch, tmp_path, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupted)
    code, _, error = run(capsys, "demo", "--out", tmp_path)
    assert code == 130
    assert "Traceback" not in error


def test_it_starts_as_a_module_and_prints_on_any_terminal(checkpoint_dir):
    """A random model writes bytes that are no text; a terminal that cannot show them is no reason to stop."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [
        sys.executable,
        "-m",
        "gptlab",
        "generate",
        "--model",
        str(checkpoint_dir),
        "你好",
        "--max-new-tokens",
        "40",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    helped = subprocess.run([sys.executable, "-m", "gptlab", "--help"], capture_output=True, check=True)
    assert all(name in helped.stdout for name in (b"demo", b"finetune", b"generate", b"chat"))


def test_a_stopped_finetuning_goes_on(checkpoint_dir, data, tmp_path, capsys, monkeypatch):
    arguments = ["--model", checkpoint_dir, "--data", data, "--batch-size", "4", "--save-every", "2", "--quiet"]
    assert run(capsys, "finetune", *arguments, "--out", tmp_path / "whole")[0] == 0

    out, real, steps = tmp_path / "out", loop.take_step, []

    def stopping(*given):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(loop, "take_step", stopping)
    code, told, error = run(capsys, "finetune", *arguments, "--out", out, "--resume")
    assert code == 130
    assert "there is no checkpoint" in told
    assert "starting afresh" in told
    assert error.strip() == "gptlab: stopped; the state after step 4 is complete, resume goes on from there"
    assert "holds checkpoints of another run" in fails(capsys, "finetune", *arguments, "--out", out)
    error = fails(capsys, "finetune", *arguments, "--out", out, "--resume", "--learning-rate", "1e-3", "--seed", "1")
    assert "learning_rate was 0.0002, is 0.001; seed was 0, is 1" in error
    data.write_text(data.read_text(encoding="utf-8").replace("number 3", "number three"), encoding="utf-8")
    assert "dataset was" in fails(capsys, "finetune", *arguments, "--out", out, "--resume")
    data.write_text(data.read_text(encoding="utf-8").replace("number three", "number 3"), encoding="utf-8")

    code, told, _ = run(capsys, "finetune", *arguments, "--out", out, "--resume", "--micro-batches", "2")
    assert code == 0
    assert "going on from" in told
    whole, resumed = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("whole", "out"))
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, atol=1e-5, rtol=1e-5)
    assert sorted(tree(out)) == sorted(tree(tmp_path / "whole"))  # no state is left over
    before = tree(out)
    code, told, _ = run(capsys, "finetune", *arguments, "--out", out, "--resume")
    assert (code, "finished" in told) == (0, True)
    assert tree(out) == before


def test_a_run_that_was_begun_again_is_not_over(checkpoint_dir, data, tmp_path, capsys, monkeypatch):
    """The same run, finished once, begun anew, and stopped before its first state was saved."""
    arguments = ["--model", checkpoint_dir, "--data", data, "--batch-size", "4", "--quiet", "--out", tmp_path / "out"]
    assert run(capsys, "finetune", *arguments)[0] == 0
    finished = load_checkpoint(tmp_path / "out").model.state_dict()
    real, steps = loop.take_step, []

    def stopping(*given):
        steps.append(1)
        if len(steps) == 7:  # in the second epoch, so that the first one's model lies there
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(loop, "take_step", stopping)
    assert run(capsys, "finetune", *arguments)[0] == 130
    monkeypatch.undo()
    half = load_checkpoint(tmp_path / "out").model.state_dict()
    assert any(not finished[name].equal(half[name]) for name in half)
    code, told, _ = run(capsys, "finetune", *arguments, "--resume")
    assert (code, "finished" in told) == (0, False)
    again = load_checkpoint(tmp_path / "out").model.state_dict()
    assert all(finished[name].equal(again[name]) for name in again)


def test_finetuning_does_not_write_over_what_it_starts_from(checkpoint_dir, data, tmp_path, capsys):
    before = tree(checkpoint_dir)
    arguments = ["--model", checkpoint_dir, "--data", data, "--quiet"]
    assert "another folder than --model" in fails(capsys, "finetune", *arguments, "--out", checkpoint_dir)
    assert tree(checkpoint_dir) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert "holds another model" in fails(capsys, "finetune", *arguments, "--out", other)
    assert sorted(tree(other)) == ["config.json"]


@pytest.mark.parametrize(
    "more",
    [
        ["--packing"],
        ["--max-tokens", "400"],
        ["--no-group-by-length", "--recompute"],
        ["--schedule", "constant", "--warmup-steps", "0"],
        ["--precision", "bfloat16"],
    ],
    ids=lambda more: more[0],
)
def test_every_way_to_finetune(checkpoint_dir, data, tmp_path, capsys, more):
    arguments = ["--model", checkpoint_dir, "--data", data, "--out", tmp_path / "o", "--learning-rate", "3e-3"]
    code, _, error = run(capsys, "finetune", *arguments, "--epochs", "10", "--quiet", *more)
    assert (code, error) == (0, "")
    history = json.loads((tmp_path / "o" / "history.json").read_text(encoding="utf-8"))["history"]
    assert history["validation"][-1][1] < 0.7 * history["validation"][0][1]


def test_a_finetuning_that_cannot_fit_is_refused_before_it_writes(checkpoint_dir, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["gptlab.training.estimate"], "available_memory", lambda device: 10**6)
    error = fails(capsys, "finetune", "--model", checkpoint_dir, "--data", data, "--out", tmp_path / "o", "--quiet")
    assert "does not fit, 976.6 KiB are free" in error
    assert "this would fit: recompute=False and micro_batches=" in error
    assert not (tmp_path / "o").exists()


def test_a_corrected_chat_becomes_entries(checkpoint_dir, tmp_path):
    told, saved = [], tmp_path / "said.json"
    model, tokenizer, _ = load_checkpoint(checkpoint_dir)
    session = ChatSession(model, tokenizer, "plain", max_new_tokens=5)
    right = "I am Yanqi. 我是雁栖。"
    lines = iter(["/correct too early", "Who are you?", "/correct", f"/correct {right}", "And now?", f"/save {saved}"])

    def read(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    run_chat(session, read=read, tell=lambda *text, **_: told.append(" ".join(text)))
    assert told[1] == "(there is no answer to correct: nothing was said yet)"
    assert "(/correct needs the right answer)" in told and "(corrected)" in told
    first, second = entries_from_corrections(saved)
    assert (first["instruction"], first["output"]) == ("Who are you?", right)
    assert second["history"] == [["Who are you?", right]]
    fresh = ChatSession(model, tokenizer, "plain", max_new_tokens=5)
    fresh.turns = list(session.turns[:1])
    list(fresh.ask("And now?"))
    assert fresh.turns == session.turns  # the second answer was given after the corrected one
