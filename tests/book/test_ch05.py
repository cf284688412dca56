import copy
import re
import urllib.request

import pytest
import tokenizers
import torch
from matplotlib import pyplot
from tokenizers.models import WordLevel
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper

from gptlab.book.ch05 import (
    assign,
    calc_loss_batch,
    calc_loss_loader,
    download_and_load_gpt2,
    download_file,
    evaluate_model,
    generate,
    generate_and_print_sample,
    load_weights_into_gpt,
    plot_losses,
    print_sampled_tokens,
    softmax_with_temperature,
    text_to_token_ids,
    token_ids_to_text,
    train_model_simple,
)
from gptlab.model import GPTModel
from gptlab.tokenizer import gpt2_tokenizer

CFG = {"vocab_size": 61, "context_length": 24, "emb_dim": 32, "n_heads": 4, "n_layers": 2, "drop_rate": 0.1}
CFG |= {"qkv_bias": True}
WINDOWS = [(torch.arange(n, n + 8), torch.arange(n + 1, n + 9)) for n in range(7)]


@pytest.fixture(autouse=True)
def one_thread(two_threads):
    torch.set_num_threads(1)  # these tensors are so small that a second thread costs more than it does


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(CFG).eval()


@pytest.fixture(scope="module")
def huggingface():
    """A random model that does not say the same token over and over."""
    torch.manual_seed(5)
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=24, n_embd=32, n_layer=2, n_head=4)).eval()
    for parameter in gpt.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return gpt


def batch(rows=3, length=8, masked=0.0):
    ids = torch.randint(0, 61, (rows, length + 1), generator=torch.Generator().manual_seed(2))
    targets = ids[:, 1:].clone()
    targets[torch.rand(rows, length, generator=torch.Generator().manual_seed(3)) < masked] = -100
    return ids[:, :-1], targets


# --- text and ids


def test_text_to_ids_and_back():
    gpt2 = gpt2_tokenizer()
    ids = text_to_token_ids("Every effort<|endoftext|>moves you", gpt2)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[*gpt2.encode("Every effort"), 50256, *gpt2.encode("moves you")]]
    assert token_ids_to_text(ids, gpt2) == token_ids_to_text(ids[0], gpt2) == "Every effort<|endoftext|>moves you"
    assert token_ids_to_text(ids[:, :1], gpt2) == "Every"
    assert text_to_token_ids("", gpt2).shape == (1, 0) and text_to_token_ids("", gpt2).dtype == torch.int64
    with pytest.raises(ValueError, match=r"must be one row, \(1, T\) or \(T,\), got shape \(2, 3\)"):
        token_ids_to_text(torch.zeros(2, 3, dtype=torch.int64), gpt2)


def test_tokenizers_that_take_the_text_alone():
    class Letters:
        def encode(self, text):
            return [ord(letter) - 97 for letter in text]

        def decode(self, ids):
            return "".join(chr(97 + i) for i in ids)

    words = tokenizers.Tokenizer(WordLevel({"moves": 0, "you": 1}, unk_token="you"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    assert text_to_token_ids("abd", Letters()).tolist() == [[0, 1, 3]]
    assert text_to_token_ids("you moves", words).tolist() == [[1, 0]]


# --- the loss


@pytest.mark.parametrize("masked", [0.0, 0.5])
def test_the_loss_is_torchs_mean_over_all_logits_to_the_last_bit(model, masked):
    inputs, targets = batch(masked=masked)
    other = copy.deepcopy(model)
    loss = calc_loss_batch(inputs, targets, model, "cpu")
    expected = F.cross_entropy(other(inputs).reshape(-1, 61), targets.reshape(-1))
    loss.backward()
    expected.backward()
    assert torch.equal(loss, expected)
    assert all(torch.equal(ours.grad, theirs.grad) for ours, theirs in zip(model.parameters(), other.parameters()))


def test_a_batch_without_a_target_costs_nothing(model):
    inputs, targets = batch(masked=2.0)
    loss = calc_loss_batch(inputs, targets, model, "cpu")
    loss.backward()
    assert loss.item() == 0
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_class_labels_are_sent_to_their_chapter(model):
    with pytest.raises(ValueError, match=r"targets must be \(3, 8\) like the inputs, got \(3,\); .*ch06"):
        calc_loss_batch(batch()[0], torch.zeros(3, dtype=torch.int64), model, "cpu")


def test_a_loader_gives_the_mean_of_its_batches_means(model):
    loader = DataLoader(WINDOWS, batch_size=2)  # 2, 2, 2, 1: the last window weighs twice, as in the book
    means = [F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).item() for inputs, targets in loader]
    assert calc_loss_loader(loader, model, "cpu") == sum(means[:4]) / 4
    assert calc_loss_loader(loader, model, "cpu", num_batches=2) == sum(means[:2]) / 2
    assert calc_loss_loader(loader, model, "cpu", num_batches=99) == sum(means) / 4


def test_nothing_to_measure_is_nan(model):
    nothing = DataLoader([], batch_size=2)
    assert torch.tensor(calc_loss_loader(nothing, model, "cpu")).isnan()
    assert torch.tensor(calc_loss_loader(nothing, model, "cpu", num_batches=3)).isnan()
    loader = DataLoader(WINDOWS, batch_size=2)
    assert torch.tensor(calc_loss_loader(loader, model, "cpu", num_batches=0)).isnan()
    with pytest.raises(ValueError, match="num_batches must be >= 0, got -1"):
        calc_loss_loader(loader, model, "cpu", num_batches=-1)


def test_a_masked_batch_is_left_out_of_the_mean(model):
    good, masked = batch(), batch(masked=2.0)
    alone = calc_loss_loader([good], model, "cpu")
    assert calc_loss_loader([masked, good, masked], model, "cpu") == alone
    assert torch.tensor(calc_loss_loader([masked], model, "cpu")).isnan()


# --- training


def the_books_training(model, train_loader, val_loader, optimizer, epochs, eval_freq, eval_iter):
    """Train in the plainest way, with evaluations that draw their loaders' random numbers where the book's do."""
    losses, seen, tokens, step = [], [], 0, 0
    for _ in range(epochs):
        model.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs).reshape(-1, 61), targets.reshape(-1)).backward()
            optimizer.step()
            tokens += inputs.numel()
            if step % eval_freq == 0:
                model.eval()
                measured = []
                for loader in (train_loader, val_loader):
                    some = [pair for number, pair in enumerate(loader) if number < eval_iter]
                    with torch.no_grad():
                        each = [F.cross_entropy(model(x).reshape(-1, 61), y.reshape(-1)).item() for x, y in some]
                    measured.append(sum(each) / len(each))
                losses.append(measured)
                seen.append(tokens)
                model.train()
            step += 1
    return [train for train, _ in losses], [val for _, val in losses], seen


def test_training_gives_the_books_numbers(model, capsys):
    """With dropout, a shuffled loader and evaluations in between: the same losses and the same weights, bit for bit."""
    other, small = copy.deepcopy(model), tokenizer_of_few_ids()
    loaders = [DataLoader(WINDOWS, batch_size=2, shuffle=shuffle, drop_last=shuffle) for shuffle in (True, False)]
    torch.manual_seed(123)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0.1)
    results = train_model_simple(
        model, *loaders, optimizer, "cpu", num_epochs=3, eval_freq=2, eval_iter=2, start_context="a b", tokenizer=small
    )
    torch.manual_seed(123)
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.004, weight_decay=0.1)
    expected = the_books_training(other, *loaders, optimizer, epochs=3, eval_freq=2, eval_iter=2)

    train_losses, val_losses, track_tokens_seen = results
    assert track_tokens_seen == expected[2] == [16, 48, 80, 112, 144]
    assert train_losses + val_losses == pytest.approx(expected[0] + expected[1], abs=1e-12)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), other.parameters()))
    assert model.training
    assert train_losses[-1] < train_losses[0]

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("Ep")] == [
        "Ep 1 (Step 000000)",
        "Ep 1 (Step 000002)",
        "Ep 2 (Step 000004)",
        "Ep 3 (Step 000006)",
        "Ep 3 (Step 000008)",
    ]
    assert lines[0].endswith(f": Train loss {train_losses[0]:.3f}, Val loss {val_losses[0]:.3f}")
    assert sum(line.startswith("a b ") for line in lines) == 3


def tokenizer_of_few_ids():
    class Words:
        def encode(self, text):
            return [ord(word) - 97 for word in text.split()]

        def decode(self, ids):
            return "\n".join(chr(97 + token) for token in ids)

    return Words()


def test_evaluation_measures_both_loaders_and_leaves_every_mode(model):
    train_loader, val_loader = DataLoader(WINDOWS[:3]), DataLoader(WINDOWS[3:])
    expected = calc_loss_loader(train_loader, model, "cpu", 2), calc_loss_loader(val_loader, model, "cpu", 2)
    model.train()
    model.trf_blocks[0].eval()  # a frozen block
    assert evaluate_model(model, train_loader, val_loader, "cpu", eval_iter=2) == expected
    assert model.training and not model.trf_blocks[0].training
    model.eval()
    evaluate_model(model, train_loader, val_loader, "cpu", eval_iter=None)
    assert not model.training


def test_a_sample_is_one_line_and_the_mode_stays(model, capsys):
    for training in (True, False):
        model.train(training)
        generate_and_print_sample(model, tokenizer_of_few_ids(), "cpu", "c d")
        assert model.training == training
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith("c d ") and len(first.split()) == 52


def test_training_needs_a_frequency(model):
    with pytest.raises(ValueError, match="eval_freq must be >= 1, got 0"):
        train_model_simple(model, [], [], None, "cpu", 1, 0, 1, "a", tokenizer_of_few_ids())


# --- decoding


def prompts(rows=3, length=5):
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def same(huggingface):
    """Our model with the weights of `huggingface`."""
    ours = GPTModel(CFG).eval()
    load_weights_into_gpt(ours, huggingface.state_dict())
    return ours


def greedily(huggingface, ids, **settings):
    settings |= {"do_sample": False, "pad_token_id": 60, "attention_mask": torch.ones_like(ids)}
    return huggingface.generate(ids, **settings)


def test_greedy_decoding_is_that_of_transformers(huggingface, same):
    expected = greedily(huggingface, prompts(), max_new_tokens=19, eos_token_id=None)
    assert torch.equal(generate(same, prompts(), 19, context_size=24), expected)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_rows_that_end_are_those_of_transformers(huggingface, same, row):
    """With more than one row the book fails. transformers keeps the last end-of-text, we do not."""
    eos = greedily(huggingface, prompts(), max_new_tokens=5, eos_token_id=None)[row, 5 + 4].item()
    settings = {"max_new_tokens": 15, "eos_token_id": eos, "pad_token_id": eos, "do_sample": False}
    expected = huggingface.generate(prompts(), attention_mask=torch.ones(3, 5), **settings)
    ids = generate(same, prompts(), 15, context_size=24, eos_id=eos)
    assert torch.equal(ids, expected[:, : ids.shape[1]])
    assert (expected[:, ids.shape[1] :] == eos).all()
    assert (ids[:, 5:] == eos).any()
    for number in range(3):  # alone, as the book can do it: the same, and no end-of-text in it
        alone = generate(same, prompts()[number : number + 1], 15, context_size=24, eos_id=eos)
        assert eos not in alone[0, 5:]
        assert ids[number].tolist() == alone[0].tolist() + [eos] * (ids.shape[1] - alone.shape[1])


@pytest.mark.parametrize("top_k", [None, 1, 3, 61, 1000])
def test_sampling_draws_from_what_transformers_leaves_over(same, top_k):
    ids, expected = prompts(), prompts()
    torch.manual_seed(7)
    ids = generate(same, ids, 10, context_size=24, temperature=1.4, top_k=top_k)
    torch.manual_seed(7)
    for _ in range(10):
        scores = TemperatureLogitsWarper(1.4)(None, same(expected)[:, -1])
        if top_k is not None:
            scores = TopKLogitsWarper(top_k)(None, scores)
        expected = torch.cat([expected, torch.multinomial(scores.softmax(dim=-1), num_samples=1)], dim=1)
    assert torch.equal(ids, expected)
    if top_k == 1:
        assert torch.equal(ids, generate(same, prompts(), 10, context_size=24))


def test_the_context_slides(same):
    ids = generate(same, prompts(1), 40, context_size=6)
    for end in range(5, 45):
        window = ids[:, max(0, end - 6) : end]
        assert same(window)[0, -1].argmax() == ids[0, end]


def test_generate_leaves_mode_and_prompt_alone(model):
    model.train()
    ids = prompts()
    assert torch.equal(generate(model, ids, 0, context_size=24), ids)
    assert generate(model, ids, 2, context_size=24).shape == (3, 7) and model.training
    assert torch.equal(ids, prompts())
    with pytest.raises(ValueError, match="top_k must be >= 1 or None, got 0"):
        generate(model, ids, 1, context_size=24, top_k=0)


def test_softmax_with_temperature():
    logits = torch.tensor([4.51, 0.89, -1.90])
    expected = (logits.double() / 5).exp()
    torch.testing.assert_close(softmax_with_temperature(logits, 5).double(), expected / expected.sum())
    rows = softmax_with_temperature(torch.stack([logits, -logits]), 0.5)  # the book's goes down the columns
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(2))
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        softmax_with_temperature(logits, 0)


def test_sampled_tokens_are_those_that_the_book_prints(capsys):
    probas = torch.softmax(torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79]), dim=0)
    state = torch.get_rng_state()
    print_sampled_tokens(probas)
    assert torch.equal(torch.get_rng_state(), state)
    counts = {"closer": 73, "every": 0, "effort": 0, "forward": 582, "inches": 2, "moves": 0, "pizza": 0, "toward": 343}
    assert capsys.readouterr().out.splitlines() == [f"{n} x {word}" for word, n in (counts | {"you": 0}).items()]
    print_sampled_tokens(torch.tensor([0.0, 1.0]))
    print_sampled_tokens(torch.tensor([0.0, 1.0]), {0: "no", 1: "yes"})
    assert capsys.readouterr().out.splitlines() == ["0 x 0", "1000 x 1", "0 x no", "1000 x yes"]


# --- pictures


def test_a_plot_holds_the_losses_and_writes_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = torch.linspace(0, 2, 3), [10, 20, 30], [3.0, 2.0, 1.0], [3.5, 2.5, 2.0]
    figure = plot_losses(*arguments)
    lower, upper = figure.axes
    assert [line.get_ydata().tolist() for line in lower.lines] == [[3.0, 2.0, 1.0], [3.5, 2.5, 2.0]]
    assert (lower.get_xlabel(), upper.get_xlabel()) == ("Epochs", "Tokens seen")
    assert upper.lines[0].get_xdata().tolist() == [10, 20, 30]
    assert list(tmp_path.iterdir()) == []
    pyplot.savefig("current.png")  # what published scripts do next
    assert (tmp_path / "current.png").stat().st_size > 10_000
    plot_losses(*arguments, plot_name="loss-plot.pdf")
    pyplot.close("all")
    assert (tmp_path / "loss-plot.pdf").read_bytes().startswith(b"%PDF")


# --- weights


def test_assign():
    right = torch.arange(6.0).reshape(2, 3)
    parameter = assign(torch.zeros(3, 2), right.numpy().T)
    assert isinstance(parameter, nn.Parameter) and parameter.is_contiguous()
    assert torch.equal(parameter, right.T)
    right[0, 0] = 9
    assert parameter[0, 0] == 0
    with pytest.raises(ValueError, match=r"Shape mismatch. Left: \(2, 2\), Right: \(2, 3\)"):
        assign(torch.zeros(2, 2), right)


class OwnGPT(nn.Module):
    """What a reader of the book writes: its names, no `cfg`, and mask buffers that are saved."""

    def __init__(self, cfg):
        super().__init__()
        library = GPTModel(cfg)
        for name, child in library.named_children():
            self.add_module(name, child)
        for block in self.trf_blocks:
            block.att.register_buffer("mask", torch.ones(cfg["context_length"], cfg["context_length"]).triu(1))
        self.forward = library.forward


@pytest.mark.parametrize("kind", [GPTModel, OwnGPT])
def test_weights_of_every_form_give_transformers_logits(huggingface, tmp_path, kind):
    huggingface.save_pretrained(tmp_path / "gpt2")
    settings, params = download_and_load_gpt2("124M", models_dir=str(tmp_path))
    assert settings == {"n_vocab": 61, "n_ctx": 24, "n_embd": 32, "n_head": 4, "n_layer": 2}
    flat = huggingface.transformer.state_dict()
    ids = prompts(2, 9)
    for weights in (params, flat, {f"transformer.{name}": tensor for name, tensor in flat.items()}):
        gpt = kind(CFG).eval()
        before = gpt.trf_blocks[0].att.W_query.weight
        load_weights_into_gpt(gpt, weights)
        torch.testing.assert_close(gpt(ids), huggingface(ids).logits, atol=2e-5, rtol=1e-5)
        assert gpt.trf_blocks[0].att.W_query.weight is before  # an optimizer that was made before still fits
        assert gpt.out_head.weight.data_ptr() != gpt.tok_emb.weight.data_ptr()


def test_params_are_openais_nested_arrays(huggingface, tmp_path):
    huggingface.save_pretrained(tmp_path / "gpt2-medium")
    _, params = download_and_load_gpt2("355M", tmp_path)
    assert params.keys() == {"wpe", "wte", "g", "b", "blocks"} and len(params["blocks"]) == 2
    block = params["blocks"][1]
    shapes = {f"{part}.{kind}": array.shape for part in ("ln_1", "ln_2") for kind, array in block[part].items()}
    for part in ("attn", "mlp"):
        for layer, arrays in block[part].items():
            shapes |= {f"{part}.{layer}.{kind}": array.shape for kind, array in arrays.items()}
    assert shapes == {
        "attn.c_attn.w": (32, 96),
        "attn.c_attn.b": (96,),
        "attn.c_proj.w": (32, 32),
        "attn.c_proj.b": (32,),
        "mlp.c_fc.w": (32, 128),
        "mlp.c_fc.b": (128,),
        "mlp.c_proj.w": (128, 32),
        "mlp.c_proj.b": (32,),
        **{f"ln_{n}.{kind}": (32,) for n in (1, 2) for kind in "gb"},
    }
    theirs = huggingface.transformer
    assert (params["g"] == theirs.ln_f.weight.detach().numpy()).all()
    assert (block["mlp"]["c_fc"]["w"] == theirs.h[1].mlp.c_fc.weight.detach().numpy()).all()


@pytest.mark.parametrize("kind", [GPTModel, OwnGPT])
def test_weights_that_do_not_fit_change_nothing(huggingface, kind):
    gpt = kind(CFG | {"context_length": 12})
    before = gpt.tok_emb.weight.clone()
    with pytest.raises(ValueError, match=r"wpe.weight: the model needs \(12, 32\), the weights have \(24, 32\)"):
        load_weights_into_gpt(gpt, huggingface.transformer.state_dict())
    assert torch.equal(gpt.tok_emb.weight, before)


def test_a_model_of_your_own_needs_the_books_names_and_head(huggingface):
    with pytest.raises(ValueError, match=r"the model has no tok_emb.weight; .* \['weight', 'bias'\]"):
        load_weights_into_gpt(nn.Linear(2, 2), {})
    gpt = OwnGPT(CFG)
    gpt.out_head = nn.Linear(32, 2, bias=False)
    with pytest.raises(ValueError, match=r"out_head.weight should be \(61, 32\), the model has \(2, 32\)"):
        load_weights_into_gpt(gpt, huggingface.transformer.state_dict())


def test_sizes_of_the_book():
    with pytest.raises(ValueError, match="model_size must be one of 124M, 355M, 774M, 1558M, got '125M'"):
        download_and_load_gpt2("125M", "models")
    with pytest.raises(ImportError, match="load_gpt2_params_from_tf_ckpt.*download_and_load_gpt2"):
        from gptlab.book.ch05 import load_gpt2_params_from_tf_ckpt  # noqa: F401


# --- downloads


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.bin"
    path.write_bytes(b"x" * 100_000)
    return path


def test_a_file_is_downloaded_once_and_again_when_its_size_changes(source, tmp_path):
    target = tmp_path / "new" / "file.bin"
    assert download_file(source.as_uri(), str(target)) is None
    assert target.read_bytes() == source.read_bytes()
    target.write_bytes(b"y" * 100_000)
    download_file(source.as_uri(), target)
    assert target.read_bytes() == b"y" * 100_000  # of the right size: kept
    target.write_bytes(b"y")
    download_file(source.as_uri(), target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_the_backup_is_asked_when_the_first_address_fails(source, tmp_path):
    download_file("file:///nowhere/first", tmp_path / "file.bin", backup_url=source.as_uri())
    assert (tmp_path / "file.bin").read_bytes() == source.read_bytes()


def test_a_failure_is_an_error_and_names_both_addresses(tmp_path):
    """The book prints it and goes on, and something else fails later."""
    with pytest.raises(
        ConnectionError, match=r"file.bin could not be .* file:///nowhere/1 .* nor from file:///nowhere/2"
    ):
        download_file("file:///nowhere/1", tmp_path / "file.bin", "file:///nowhere/2")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_survives_a_failure_with_a_warning(tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    with pytest.warns(UserWarning, match=r"file.bin is kept as it is: nothing came from file:///nowhere/1"):
        download_file("file:///nowhere/1", tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == b"old"


def test_a_connection_that_ends_early_is_a_failure(source, tmp_path, monkeypatch):
    whole = urllib.request.urlopen

    def cut(*args, **kwargs):
        response = whole(*args, **kwargs)
        response.headers.replace_header("Content-Length", "100001")
        return response

    monkeypatch.setattr(urllib.request, "urlopen", cut)
    with pytest.raises(ConnectionError, match=re.escape("ended after 100000 of 100001 bytes")):
        download_file(source.as_uri(), tmp_path / "file.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["source.bin"]
