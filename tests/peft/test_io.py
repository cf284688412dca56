"""Adapters as files: what is refused, and what a failure leaves."""

import copy
import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptlab.data import load_template
from gptlab.model import GPTModel
from gptlab.peft import Branch, LoRA, apply, load_adapter, load_tuned, merge, save_adapter, trainable_parameters, use
from gptlab.peft.io import SETTINGS, WEIGHTS, find_base
from gptlab.peft.manage import adapters_of
from gptlab.peft.prefix import PrefixTuning
from gptlab.peft.qlora import QLoRA
from gptlab.training import Hook
from gptlab.weights import load_checkpoint, save_checkpoint

IDS = torch.tensor([[5, 9, 2, 7, 7, 1]])


def tuned(model, method=None, name="default"):
    """Put on an adapter and change it, as training does."""
    apply(model, method or LoRA(rank=2), name=name, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for number, weight in enumerate(trainable_parameters(model)):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)), alpha=0.1)
    return model


def logits(model):
    with torch.no_grad():
        return model(IDS)


@pytest.fixture
def saved(tiny, tmp_path):
    """A folder with an adapter, and the logits that it gives."""
    model = tuned(copy.deepcopy(tiny))
    save_adapter(model, tmp_path / "adapter")
    return tmp_path / "adapter", logits(model)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(folder, change):
    """Let `change` change what adapter.json holds."""
    about = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    change(about)
    (folder / SETTINGS).write_text(json.dumps(about), encoding="utf-8")


# --- what the files hold


def test_two_small_files_and_nothing_of_the_model(saved, tiny):
    folder, _ = saved
    assert sorted(files(folder)) == [SETTINGS, WEIGHTS]
    places = [
        f"trf_blocks.{block}.att.{name}:{half}"
        for block in range(2)
        for name in ("W_query", "W_value")
        for half in "AB"
    ]
    assert sorted(load_file(folder / WEIGHTS)) == sorted(places)
    about = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    assert about["method"] == {**LoRA(rank=2).to_dict(), "targets": ["W_query", "W_value"]}
    assert about["base"]["config"] == tiny.cfg.to_dict()


def test_the_config_is_that_of_the_base_without_virtual_tokens(tiny, tmp_path):
    model = tuned(copy.deepcopy(tiny), PrefixTuning(tokens=3))
    expected = logits(model)
    save_adapter(model, tmp_path)
    assert json.loads((tmp_path / SETTINGS).read_text())["base"]["config"]["context_length"] == 160
    assert logits(load_adapter(tiny, tmp_path)).equal(expected)


def test_one_of_several_is_saved_by_its_name(tiny, tmp_path):
    first = logits(tuned(tiny, name="first"))
    tuned(tiny, LoRA(rank=1), name="second")
    save_adapter(tiny, tmp_path / "first", name="first")
    save_adapter(tiny, tmp_path / "active")
    assert json.loads((tmp_path / "active" / SETTINGS).read_text())["method"]["rank"] == 1
    load_adapter(tiny, tmp_path / "first", name="again")
    assert logits(tiny).equal(first)


def test_a_loaded_adapter_is_saved_again_without_training(saved, tiny, tmp_path):
    folder, _ = saved
    save_adapter(load_adapter(tiny, folder, name="other"), tmp_path / "again")
    assert files(tmp_path / "again") == files(folder)


def test_loading_draws_no_random_numbers(saved, tiny):
    state = torch.get_rng_state()
    load_adapter(tiny, saved[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("trainable", [True, False])
def test_loaded_beside_one_that_learned(saved, tiny, trainable):
    folder, expected = saved
    first = logits(tuned(tiny, name="first"))
    assert logits(load_adapter(tiny, folder, name="second", trainable=trainable)).equal(expected)
    assert len(trainable_parameters(tiny)) == (8 if trainable else 0)
    use(tiny, "first")
    assert logits(tiny).equal(first)


def test_a_base_of_the_same_shape_is_accepted_when_asked(saved, tiny):
    folder, _ = saved
    tiny.trf_blocks[0].att.W_query.weight.data.mul_(1.1)
    with pytest.raises(ValueError, match=r"other weights; load_adapter\(..., any_base=True\) puts it on"):
        load_adapter(tiny, folder)
    before = logits(tiny)
    assert not logits(load_adapter(tiny, folder, any_base=True)).equal(before)


def test_dropout_and_ties_may_be_others(saved, tiny):
    """Neither changes what the weights under the adapter are."""
    folder, expected = saved
    cfg = tiny.cfg.to_dict() | {"drop_rate": 0.3}
    other = GPTModel(cfg).eval()
    other.load_state_dict(tiny.state_dict())
    assert logits(load_adapter(other, folder)).equal(expected)
    untied = GPTModel(cfg | {"tie_weights": False}).eval()
    untied.load_state_dict(tiny.state_dict())
    assert logits(load_adapter(untied, folder, any_base=True)).equal(expected)


def test_a_base_of_another_size_is_named(saved, tiny):
    cfg = tiny.cfg.to_dict() | {"n_layers": 3, "qkv_bias": True}
    with pytest.raises(ValueError, match="another size: n_layers was 2, is 3; qkv_bias was False, is True"):
        load_adapter(GPTModel(cfg), saved[0], any_base=True)


def test_the_name_is_taken(saved, tiny):
    folder, expected = saved
    load_adapter(tiny, folder)
    with pytest.raises(ValueError, match="has an adapter 'default' already"):
        load_adapter(tiny, folder)
    assert logits(tiny).equal(expected)
    merge(tiny)
    with pytest.raises(ValueError, match="merged already"):
        load_adapter(tiny, folder, name="other")


# --- what is not saved


def test_adapters_that_are_not_saved(tiny, tmp_path):
    with pytest.raises(ValueError, match="the model has no adapter; apply"):
        save_adapter(tiny, tmp_path)
    apply(tiny, LoRA(rank=2), name="first")
    with pytest.raises(ValueError, match="'first' holds the numbers that it began with: train it before it is written"):
        save_adapter(tiny, tmp_path)
    with pytest.raises(ValueError, match="the model has no adapter 'second'"):
        save_adapter(tiny, tmp_path, name="second")
    use(tiny, None)
    with pytest.raises(ValueError, match="the model has no active adapter"):
        save_adapter(tiny, tmp_path)
    merge(tuned(tiny, name="second"))
    with pytest.raises(ValueError, match="'second' is merged already"):
        save_adapter(tiny, tmp_path)
    assert not list(tmp_path.iterdir())


class Nothing(LoRA):
    def build(self, model, **options):
        return {}


class Bare(LoRA):
    """Its module has no parameters."""

    def build(self, model, **options):
        class Doubled(Branch):
            def forward(self, x, base):
                return 2 * base(x)

        return {"trf_blocks.0.att.W_query": Doubled()}


@pytest.mark.parametrize("method", [Nothing(), Bare()])
def test_an_empty_adapter_is_not_saved(tiny, tmp_path, method):
    with pytest.raises(ValueError, match="the adapter 'default' is empty: it has no parameters"):
        save_adapter(apply(tiny, method), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["format", "method", "base"])
def test_notes_do_not_hide_what_the_file_needs(tiny, tmp_path, name):
    with pytest.raises(ValueError, match=f"other names than format, method, base, got steps, {name}"):
        save_adapter(tuned(tiny), tmp_path, notes={"steps": 5, name: "mine"})
    save_adapter(tiny, tmp_path, notes={"steps": 5})
    assert json.loads((tmp_path / SETTINGS).read_text())["steps"] == 5


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_a_folder_that_holds_something_else(tiny, tmp_path, file):
    (tmp_path / file).write_text("{}")
    with pytest.raises(ValueError, match=f"holds another model or adapter, it has {file}; choose another folder"):
        save_adapter(tuned(tiny), tmp_path)
    assert list(files(tmp_path)) == [file]


def test_a_folder_that_holds_a_checkpoint(tiny, checkpoint_dir):
    before = files(checkpoint_dir)
    with pytest.raises(ValueError, match="it has config.json"):
        save_adapter(tuned(tiny), checkpoint_dir)
    assert files(checkpoint_dir) == before


def test_a_save_that_fails_leaves_the_old_files(saved, tiny, monkeypatch):
    """The disk is full when the second file is written."""
    folder, expected = saved
    before = files(folder)
    write = Path.write_bytes

    def until_full(path, content):
        if SETTINGS in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    model = tuned(copy.deepcopy(tiny), LoRA(rank=4))
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(Path, "write_bytes", until_full)
        save_adapter(model, folder)
    assert files(folder) == before
    with pytest.raises(TypeError, match="Hook is not JSON serializable"):
        save_adapter(model, folder, notes={"hook": Hook()})
    assert files(folder) == before
    assert logits(load_adapter(tiny, folder)).equal(expected)
    save_adapter(model, folder)  # and this one replaces them
    assert files(folder) != before


# --- damaged files


def _without(key):
    return lambda about: about.pop(key)


def _with(**values):
    return lambda about: about.update(values)


def _with_method(**values):
    return lambda about: about["method"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("format"), "adapter.json must say format 'gptlab-adapter-1'"),
        (_with(format="gptlab-adapter-2"), "must say format 'gptlab-adapter-1'"),
        (_without("method"), "must hold the objects 'method' and 'base'"),
        (_with(method="lora"), "must hold the objects 'method' and 'base'"),
        (_without("base"), "must hold the objects 'method' and 'base'"),
        (_with(base={"digest": "0"}), "must hold an object 'config' in 'base'"),
        (_with(base={"digest": "0", "config": [1]}), "must hold an object 'config' in 'base'"),
        (lambda about: about["base"].pop("digest"), "other weights"),
        (_with(method={}), r"method must be one of lora, .*got None; one of your own must be defined before"),
        (_with_method(method="magic"), "method must be one of lora, .*got 'magic'"),
        (_with_method(method=["lora"]), r"method must be one of lora, .*got \['lora'\]"),
        (_with_method(strength=3), "these are no settings of lora: .*strength"),
        (_with_method(rank="two"), "rank must be a whole number >= 1, got 'two'"),
        (_with_method(rank_pattern=5), "these are no settings of lora: .*int"),
        (_with_method(targets=5), "these are no settings of lora: .*int"),
        (_with_method(targets=["q_proj"]), "no module matches 'q_proj'"),
        (_with_method(targets=["W_query"]), r"not of the adapter .*has unknown \['trf_blocks.0.att.W_value:A'"),
        (_with_method(targets="all-linear"), r"it lacks \['trf_blocks.0.att.W_key:A'"),
        (_with_method(rank=3), r"others in shape, \['trf_blocks.0.att.W_"),
    ],
)
def test_settings_that_are_damaged(saved, tiny, change, message):
    folder, _ = saved
    edit(folder, change)
    before, modules = logits(tiny), [type(module) for module in tiny.modules()]
    with pytest.raises(ValueError, match=message):
        load_adapter(tiny, folder)
    assert adapters_of(tiny) is None
    assert [type(module) for module in tiny.modules()] == modules
    assert logits(tiny).equal(before)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '"gptlab-adapter-1"', "null"])
def test_settings_that_are_no_object(saved, tiny, text):
    folder, _ = saved
    (folder / SETTINGS).write_text(text)
    with pytest.raises(ValueError, match="adapter.json (is not JSON|must say format)"):
        load_adapter(tiny, folder)


@pytest.mark.parametrize("kept", [0, 7, 200, -1])
def test_weights_that_are_cut_off(saved, tiny, kept):
    folder, _ = saved
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:kept])
    with pytest.raises(ValueError, match="adapter.safetensors is damaged"):
        load_adapter(tiny, folder)
    assert adapters_of(tiny) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.popitem(), r"it lacks \['trf_blocks.1.att.W_value:B'\], has unknown \[\]"),
        (_with(extra=torch.ones(2)), r"it lacks \[\], has unknown \['extra'\]"),
        (
            lambda tensors: tensors.update({"trf_blocks.0.att.W_query:A": torch.ones(3, 32)}),
            r"others in shape, \['trf_bl",
        ),
    ],
)
def test_weights_of_another_adapter(saved, tiny, change, message):
    folder, _ = saved
    tensors = dict(sorted(load_file(folder / WEIGHTS).items()))
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=f"not of the adapter that adapter.json describes: .*{message}"):
        load_adapter(tiny, folder)
    assert adapters_of(tiny) is None


def test_files_that_are_missing(saved, tiny, tmp_path):
    folder, _ = saved
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="holds no adapter: it has no adapter.safetensors"):
        load_adapter(tiny, folder)
    with pytest.raises(FileNotFoundError, match="nowhere holds no adapter: it has no adapter.json$"):
        load_adapter(tiny, tmp_path / "nowhere")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="it has no adapter.json; import_peft reads it"):
        load_adapter(tiny, tmp_path)


# --- with its base


@pytest.fixture
def beside_its_base(checkpoint_dir, tmp_path):
    """A folder with an adapter, and the logits that it gives on the checkpoint beside it."""
    model = tuned(load_checkpoint(checkpoint_dir).model, QLoRA(rank=2))
    notes = {"base_model": f"../{checkpoint_dir.name}", "template": load_template("plain").to_dict()}
    save_adapter(model, tmp_path / "tuned", notes=notes)
    return tmp_path / "tuned", logits(model)


def test_base_and_adapter_may_move_together(beside_its_base, checkpoint_dir, tmp_path, monkeypatch):
    folder, expected = beside_its_base
    (tmp_path / "elsewhere").mkdir()
    for moved in (folder, checkpoint_dir):
        moved.rename(tmp_path / "elsewhere" / moved.name)
    monkeypatch.chdir(tmp_path)
    found = load_tuned("elsewhere/tuned")
    assert logits(found.model).equal(expected)
    assert not any(module.training for module in found.model.modules())
    assert not trainable_parameters(found.model)
    assert found.template == load_template("plain")


def test_a_base_that_is_given_comes_first(beside_its_base, tiny, tokenizer, tmp_path):
    folder, expected = beside_its_base
    edit(folder, _with(base_model="../gone"))
    assert logits(load_tuned(folder, base=tmp_path / "tiny").model).equal(expected)
    tiny.trf_blocks[0].ff.layers[0].weight.data.mul_(2)
    save_checkpoint(tmp_path / "other", tiny, tokenizer)
    with pytest.raises(ValueError, match="was trained on a model with other weights"):
        load_tuned(folder, base=tmp_path / "other")


@pytest.mark.parametrize("gone", ["../gone", "/nowhere/gone"])
def test_a_base_that_is_missing(beside_its_base, tmp_path, monkeypatch, gone):
    """The path is named where it was looked for, in whichever folder the program runs."""
    folder, _ = beside_its_base
    edit(folder, _with(base_model=gone))
    monkeypatch.chdir(tmp_path)
    tried = tmp_path / "gone" if gone.startswith(".") else gone
    message = f"the base of the adapter in tuned is missing: there is no {tried}; if it is elsewhere, give base"
    with pytest.raises(FileNotFoundError, match=message):
        load_tuned("tuned")
    with pytest.raises(FileNotFoundError, match="is missing: there is no file or folder .*nothing"):
        load_tuned(folder, base=tmp_path / "nothing")


def test_where_the_base_is(beside_its_base, checkpoint_dir, tmp_path, monkeypatch):
    """Beside the adapter first, then where the program runs; what is no path can be a name."""
    folder, _ = beside_its_base
    assert find_base(folder).samefile(checkpoint_dir)
    monkeypatch.chdir(tmp_path)
    edit(folder, _with(base_model=checkpoint_dir.name))
    assert find_base(folder).samefile(checkpoint_dir)
    edit(folder, _with(base_model="124M"))
    assert find_base(folder) == "124M"


@pytest.mark.parametrize("change", [_without("base_model"), _with(base_model=None), _with(base_model=5)])
def test_a_base_that_nobody_names(beside_its_base, change):
    folder, _ = beside_its_base
    edit(folder, change)
    with pytest.raises(ValueError, match="does not say on which checkpoint it was tuned; give base"):
        load_tuned(folder)


def test_a_template_that_is_damaged(beside_its_base):
    folder, _ = beside_its_base
    edit(folder, _with(template={"name": "mine"}))
    with pytest.raises(ValueError, match="template"):
        load_tuned(folder)


def test_without_a_template_it_answers_in_its_bases_form(beside_its_base, checkpoint_dir):
    folder, _ = beside_its_base
    edit(folder, _without("template"))
    assert load_tuned(folder).template == load_checkpoint(checkpoint_dir).template
