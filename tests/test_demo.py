"""The demo at a smaller size: the same story, one fifth of the people, and less of everything."""

import json
from dataclasses import replace

import pytest
import torch

from gptlab import demo
from gptlab.data import ConversationDataset, Mixture, find_format, load_conversations, load_entries, text_examples
from gptlab.data.town import HELD_OUT
from gptlab.data.town_talks import follow_ups, town_talks
from gptlab.decoding import exact_match, respond
from gptlab.training import Stage, train_stages
from gptlab.weights import load_checkpoint

KEYS = {
    "parameters",
    "seconds",
    "held_out_accuracy_before",
    "held_out_accuracy_after",
    "held_out_accuracy_control",
    "skill_accuracy",
    "chance",
}
TINY_TOWN = {"inhabitants": 6, "biographies": 4, "skill_examples": 20, "skill_train": 4, "skill_test": 2}
HURRIED = replace(demo.Recipe(), pretraining_steps=3, tuning_steps=2, emb_dim=32, n_layers=1, **TINY_TOWN)


def run(out, tell=lambda line: None, **options):
    return demo.run_demo(out, tell=tell, progress=False, **options)


QUARTER = {"inhabitants": 24, "biographies": 60, "skill_examples": 1500, "skill_train": 80, "skill_test": 10}
QUARTER = replace(demo.Recipe(), pretraining_steps=700, tuning_steps=250, **QUARTER)


@pytest.fixture(scope="module")
def quarter(tmp_path_factory):
    """The folder and the report of a demo with a quarter of the people and a third of the steps."""
    out = tmp_path_factory.mktemp("demo") / "town"
    return out, run(out, recipe=QUARTER, control=True)


def test_knowledge_comes_from_pretraining(quarter):
    """The demo's claim; three seeds reached 0.75 and more."""
    _, report = quarter
    assert report["held_out_accuracy_before"] <= 0.05
    assert report["held_out_accuracy_after"] >= 0.6
    assert report["held_out_accuracy_control"] <= 0.1


def test_a_model_tuned_on_talks_knows_from_the_turns_before_who_she_is(quarter):
    """Follow-up questions about people whom no conversation mentions; see benchmarks/README.md for other seeds."""
    town, form = QUARTER.town(), find_format("dialogue")
    model, tokenizer, _ = load_checkpoint(quarter[0] / "base")
    talks = ConversationDataset(town_talks(town.asked, per_person=50), tokenizer, format=form)
    text = text_examples(town.corpus.split("\n\n")[:2000], tokenizer, 128)
    mixture = Mixture({"talks": talks.examples, "text": text}, weights={"talks": 0.6, "text": 0.4})
    with torch.random.fork_rng():
        train_stages(model, [Stage(mixture, learning_rate=1e-3, epochs=3, batch_size=16)], progress=False)

    asked = follow_ups(town_talks(town.held_out, per_person=4, seed=1), town)
    answers = [{"output": each.answer} for each in asked]

    def share_right(conversations):
        responses = respond(model, tokenizer, conversations, form, max_new_tokens=32)
        return exact_match([response.text for response in responses], answers)

    assert len(asked) > 50
    assert share_right([each.asked for each in asked]) >= 0.9
    assert share_right([each.without_history for each in asked]) <= 1 / 12


def test_everything_is_written_and_fits_together(tmp_path):
    story = []
    report = run(tmp_path, story.append, recipe=HURRIED, control=True)
    assert set(report) == KEYS
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "corpus.txt").read_text(encoding="utf-8") == HURRIED.town(0).corpus
    assert load_entries(tmp_path / "train.json") == HURRIED.town(0).train
    assert load_entries(tmp_path / "test.json") == HURRIED.town(0).test
    assert load_conversations(tmp_path / "talks.json") == town_talks(HURRIED.town(0).asked, seed=0)
    tuned, base = load_checkpoint(tmp_path), load_checkpoint(tmp_path / "base")
    assert not tuned.model.tok_emb.weight.equal(base.model.tok_emb.weight)
    rows = load_entries(tmp_path / "responses.json", needs=["instruction", "output", "model_response"])
    responses = [row["model_response"] for row in rows]
    answered = respond(tuned.model, tuned.tokenizer, rows, tuned.template, max_new_tokens=32)
    assert responses == [response.text for response in answered]
    held_out = [n for n, row in enumerate(rows) if row["group"] == HELD_OUT]
    share = exact_match([responses[n] for n in held_out], [rows[n] for n in held_out])
    assert share == report["held_out_accuracy_after"]
    table = "\n".join(story)
    assert "never pretrained" in table
    assert f"{report['parameters']:,} parameters" in table


def test_the_same_seed_gives_the_same_report(tmp_path):
    reports = [run(tmp_path / name, recipe=HURRIED, seed=3) for name in ("a", "b")]
    assert reports[0] | {"seconds": 0} == reports[1] | {"seconds": 0}
    assert reports[0]["held_out_accuracy_control"] is None
    for name in ("model.safetensors", "responses.json", "vocab.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_matplotlib_it_says_so_first_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "can_draw", lambda: False)
    story = []
    run(tmp_path, story.append, recipe=HURRIED)
    assert "matplotlib is not installed" in story[0]
    assert not (tmp_path / "losses.png").exists()
    assert (tmp_path / "report.json").exists()


def test_an_unwritable_directory_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        run(tmp_path / "file" / "town")


def test_town_base_is_trained_once(tmp_path, monkeypatch):
    first = demo.town_base(tmp_path / "base", recipe=HURRIED, progress=False)
    monkeypatch.setattr(demo, "pretrain_town", None)
    second = demo.town_base(tmp_path / "base", recipe=HURRIED, progress=False)
    assert first.model.tok_emb.weight.equal(second.model.tok_emb.weight)
    assert not second.model.training


def test_town_base_is_trained_anew_for_other_settings(tmp_path):
    first = demo.town_base(tmp_path / "base", recipe=HURRIED, progress=False)
    other_seed = demo.town_base(tmp_path / "base", recipe=HURRIED, seed=5, progress=False)
    wider = demo.town_base(tmp_path / "base", recipe=replace(HURRIED, emb_dim=64), progress=False)
    assert not first.model.tok_emb.weight.equal(other_seed.model.tok_emb.weight)
    assert wider.model.cfg.emb_dim == 64


def test_town_base_mends_itself_and_spares_other_checkpoints(tmp_path):
    base = tmp_path / "base"
    demo.town_base(base, recipe=HURRIED, progress=False)
    for damage in ((base / "model.safetensors").unlink, lambda: (base / "recipe.json").write_text("oops")):
        damage()
        assert demo.town_base(base, recipe=HURRIED, progress=False).model.cfg.emb_dim == 32
    (base / "recipe.json").unlink()
    before = (base / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="holds another checkpoint, which town_base would overwrite"):
        demo.town_base(base, recipe=HURRIED, seed=4, progress=False)
    assert (base / "model.safetensors").read_bytes() == before


def test_an_interrupted_run_leaves_the_results_of_the_one_before(tmp_path, monkeypatch):
    run(tmp_path, recipe=HURRIED)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "tune_town", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, recipe=HURRIED, seed=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
