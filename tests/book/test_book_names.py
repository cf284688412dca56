"""The book's names from outside: all are there with the book's signatures, or say what they wait for."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gptlab import book
from gptlab.book import by_targets, ch05, ch06
from gptlab.book.pending import PENDING
from gptlab.model import GPTModel

CHAPTERS = ["ch02", "ch03", "ch04", "ch05", "ch06", "ch07", "appendix_d", "appendix_e", "kv_cache"]
LOADERS = "model, train_loader, val_loader"
TRAINING = f"{LOADERS}, optimizer, device"
PROMPT = "model, idx, max_new_tokens"
COLLATE = "batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device='cpu'"

# The book's signatures. A name may take more than this behind them, with a default.
SIGNATURES = {
    "ch02.GPTDatasetV1": "txt, tokenizer, max_length, stride",
    "ch02.create_dataloader_v1": (
        "txt, batch_size=4, max_length=256, stride=128, shuffle=True, drop_last=True, num_workers=0"
    ),
    "ch02.SimpleTokenizerV1": "vocab",
    "ch02.SimpleTokenizerV2": "vocab",
    "ch02.BPETokenizerSimple": "",
    "ch03.SelfAttention_v1": "d_in, d_out",
    "ch03.SelfAttention_v2": "d_in, d_out, qkv_bias=False",
    "ch03.CausalAttention": "d_in, d_out, context_length, dropout, qkv_bias=False",
    "ch03.MultiHeadAttentionWrapper": "d_in, d_out, context_length, dropout, num_heads, qkv_bias=False",
    "ch03.MultiHeadAttention": "d_in, d_out, context_length, dropout, num_heads, qkv_bias=False",
    "ch03.PyTorchMultiHeadAttention": "d_in, d_out, num_heads, dropout=0.0, qkv_bias=False",
    "ch04.LayerNorm": "emb_dim",
    "ch04.GELU": "",
    "ch04.FeedForward": "cfg",
    "ch04.FeedForwardFast": "cfg",
    "ch04.TransformerBlock": "cfg",
    "ch04.TransformerBlockFast": "cfg",
    "ch04.GPTModel": "cfg",
    "ch04.GPTModelFast": "cfg",
    "ch04.DummyGPTModel": "cfg",
    "ch04.generate_text_simple": "model, idx, max_new_tokens, context_size",
    "ch05.text_to_token_ids": "text, tokenizer",
    "ch05.token_ids_to_text": "token_ids, tokenizer",
    "ch05.calc_loss_batch": "input_batch, target_batch, model, device",
    "ch05.calc_loss_loader": "data_loader, model, device, num_batches=None",
    "ch05.evaluate_model": f"{LOADERS}, device, eval_iter",
    "ch05.generate_and_print_sample": "model, tokenizer, device, start_context",
    "ch05.train_model_simple": f"{TRAINING}, num_epochs, eval_freq, eval_iter, start_context, tokenizer",
    "ch05.generate": "model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None",
    "ch05.plot_losses": "epochs_seen, tokens_seen, train_losses, val_losses",
    "ch05.softmax_with_temperature": "logits, temperature",
    "ch05.print_sampled_tokens": "probas",
    "ch05.assign": "left, right",
    "ch05.load_weights_into_gpt": "gpt, params",
    "ch05.download_and_load_gpt2": "model_size, models_dir",
    "ch05.download_file": "url, destination, backup_url=None",
    "ch06.download_and_unzip_spam_data": "url, zip_path, extracted_path, data_file_path",
    "ch06.create_balanced_dataset": "df",
    "ch06.random_split": "df, train_frac, validation_frac",
    "ch06.SpamDataset": "csv_file, tokenizer, max_length=None, pad_token_id=50256",
    "ch06.calc_accuracy_loader": "data_loader, model, device, num_batches=None",
    "ch06.calc_loss_batch": "input_batch, target_batch, model, device",
    "ch06.calc_loss_loader": "data_loader, model, device, num_batches=None",
    "ch06.evaluate_model": f"{LOADERS}, device, eval_iter",
    "ch06.train_classifier_simple": f"{TRAINING}, num_epochs, eval_freq, eval_iter",
    "ch06.plot_values": "epochs_seen, examples_seen, train_values, val_values, label='loss'",
    "ch06.classify_review": "text, model, tokenizer, device, max_length=None, pad_token_id=50256",
    "ch07.download_and_load_file": "file_path, url",
    "ch07.format_input": "entry",
    "ch07.format_input_phi": "entry",
    "ch07.InstructionDataset": "data, tokenizer",
    "ch07.InstructionDatasetPhi": "data, tokenizer",
    "ch07.InstructionDatasetWithMasking": "data, tokenizer",
    "ch07.custom_collate_draft_1": "batch, pad_token_id=50256, device='cpu'",
    "ch07.custom_collate_draft_2": "batch, pad_token_id=50256, device='cpu'",
    "ch07.custom_collate_fn": COLLATE,
    "ch07.custom_collate_with_masking_fn": COLLATE,
    "appendix_d.find_highest_gradient": "model",
    "appendix_d.train_model": (
        f"{TRAINING}, n_epochs, eval_freq, eval_iter, start_context, tokenizer, warmup_steps, initial_lr=3e-05, "
        "min_lr=1e-06, orig_book_version=False"
    ),
    "appendix_e.LoRALayer": "in_dim, out_dim, rank, alpha",
    "appendix_e.LinearWithLoRA": "linear, rank, alpha",
    "appendix_e.replace_linear_with_lora": "model, rank, alpha",
    "kv_cache.gpt2.GPTModel": "cfg",
    "kv_cache.utils.KVCache": "n_layers",
    "kv_cache.generate.generate_text_simple": f"{PROMPT}, context_size=None, use_cache=True",
    "kv_cache.generate.generate_text_simple_cached": f"{PROMPT}, context_size=None, use_cache=True",
    "kv_cache.generate.generate_text_simple_stream": (
        "model, token_ids, max_new_tokens, eos_token_id=None, context_size=None"
    ),
    "kv_cache.generate.trim_input_tensor": "input_ids_tensor, context_len, max_new_tokens",
    "by_targets.calc_loss_batch": "input_batch, target_batch, model, device",
    "by_targets.calc_loss_loader": "data_loader, model, device, num_batches=None",
    "by_targets.evaluate_model": f"{LOADERS}, device, eval_iter",
}


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures_are_the_books(path):
    module, name = path.rsplit(".", 1)
    found = getattr(importlib.import_module(f"gptlab.book.{module}"), name)
    expected = eval(f"lambda {SIGNATURES[path]}: None")  # the text above, as a signature
    ours = list(inspect.signature(found).parameters.values())
    theirs = list(inspect.signature(expected).parameters.values())
    assert [(one.name, one.default) for one in ours[: len(theirs)]] == [(one.name, one.default) for one in theirs]
    more = [one for one in ours[len(theirs) :] if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    assert all(one.default is not one.empty for one in more)


def test_every_name_is_there_from_both_places():
    for name in book.__all__:
        assert getattr(book, name) is getattr(importlib.import_module(book._MODULE_OF[name]), name)
    assert set(book.__all__) <= set(dir(book))
    assert {path.rsplit(".", 1)[1] for path in SIGNATURES} <= set(book.__all__)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_chapter_has_a_name_that_the_package_hides(chapter):
    module = importlib.import_module(f"gptlab.book.{chapter}")
    assert set(getattr(module, "__all__", [])) <= set(book.__all__)


def test_imports_as_teaching_code_writes_them():
    from gptlab.book import GPTModel as from_package
    from gptlab.book import ch04
    from gptlab.book.ch04 import GPTModel as from_chapter

    assert from_package is from_chapter is ch04.GPTModel
    with pytest.raises(ImportError, match="cannot import name 'GPTModle'"):
        from gptlab.book import GPTModle  # noqa: F401
    with pytest.raises(AttributeError, match="gptlab.book has no 'GPTModle'; it has .*GPTModel"):
        _ = book.GPTModle


def test_importing_the_package_is_light():
    def modules_after(code):
        report = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
        return set(json.loads(subprocess.run([sys.executable, "-c", report], capture_output=True, check=True).stdout))

    assert "torch" not in modules_after("import gptlab.book")
    heavy = {"matplotlib", "pandas", "transformers", "tensorflow", "huggingface_hub"}
    assert not heavy & modules_after("from gptlab.book import *")


# --- names that are not there yet

WAITING = [(module, name) for module, names in PENDING.items() for name in names]
WORDS = {
    "ch07": "judging|preference",
    "ch05": "TensorFlow",
    "gpt_download": "TensorFlow",
}


@pytest.mark.parametrize(("module", "name"), WAITING)
def test_a_name_that_waits_says_what_for(module, name):
    reason = f"{module} does not have {name} yet: .*({WORDS[module.split('.')[-1]]})"
    with pytest.raises(ImportError, match=reason):
        exec(f"from {module} import {name}")
    if name not in book.__all__:
        with pytest.raises(ImportError, match=reason.removeprefix(module)):
            exec(f"from gptlab.book import {name}")


def test_modules_of_waiting_names_import():
    for module in {module for module, _ in WAITING}:
        with pytest.raises(AttributeError, match=f"'{module}' has no attribute 'nothing'"):
            _ = importlib.import_module(module).nothing


# --- one name, two chapters


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    cfg = {"vocab_size": 40, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0}
    return GPTModel(cfg | {"qkv_bias": False}).eval()


def rows(kind, count=7):
    """Give windows of 8 tokens with the next ones, or with a class each."""
    ids = torch.randint(0, 40, (count, 9), generator=torch.Generator().manual_seed(1))
    return list(zip(ids[:, :-1], ids[:, 1:] if kind == "tokens" else ids[:, 0] % 2))


@pytest.mark.parametrize(("kind", "chapter"), [("tokens", ch05), ("classes", ch06)])
def test_targets_tell_the_chapter(classifier, kind, chapter):
    if kind == "classes":
        classifier.out_head = torch.nn.Linear(16, 2)
    loader = DataLoader(rows(kind), batch_size=3)
    inputs, targets = next(iter(loader))
    loss = book.calc_loss_batch(inputs, targets, classifier, "cpu")
    logits = classifier(inputs)
    expected = logits.flatten(0, 1) if kind == "tokens" else logits[:, -1]
    torch.testing.assert_close(loss, F.cross_entropy(expected, targets.flatten()))
    assert torch.equal(loss, chapter.calc_loss_batch(inputs, targets, classifier, "cpu"))
    for batches in (None, 2, 99):
        ours = book.calc_loss_loader(loader, classifier, "cpu", batches)
        assert ours == pytest.approx(chapter.calc_loss_loader(loader, classifier, "cpu", batches), abs=1e-6)
    both = book.evaluate_model(classifier, loader, loader, "cpu", eval_iter=1)
    assert both == pytest.approx(chapter.evaluate_model(classifier, loader, loader, "cpu", 1), abs=1e-6)


def test_telling_draws_nothing_more_from_a_shuffling_loader(classifier):
    """The state afterwards is that of going through the loader once, and no batch is skipped."""
    states = []
    for measure in (lambda loader: book.calc_loss_loader(loader, classifier, "cpu"), list):
        generator = torch.Generator().manual_seed(3)
        torch.manual_seed(4)
        measure(DataLoader(rows("tokens"), batch_size=2, shuffle=True, generator=generator))
        states.append((generator.get_state(), torch.get_rng_state()))
    assert all(torch.equal(ours, plain) for ours, plain in zip(*states))


@pytest.mark.parametrize("targets", [torch.tensor(1), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_targets_that_are_neither(classifier, targets):
    with pytest.raises(ValueError, match=r"targets must be \(B, T\).* or \(B,\).*got shape \((2, 3, 4)?\)"):
        by_targets.calc_loss_batch(torch.zeros(2, 3, dtype=torch.int64), targets, classifier, "cpu")
