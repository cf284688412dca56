"""The book's GPT with a key-value cache: against the same GPT without one, under the book's calls."""

import pytest
import torch

import gptlab
from gptlab.book import ch04, kv_cache
from gptlab.book.kv_cache.generate import (
    generate_text_simple,
    generate_text_simple_cached,
    generate_text_simple_stream,
    trim_input_tensor,
)
from gptlab.book.kv_cache.gpt2 import GPTModel
from gptlab.book.kv_cache.utils import KVCache

CFG = {"vocab_size": 50, "context_length": 12, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "drop_rate": 0.1}
CFG |= {"qkv_bias": True}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
GENERATE = [generate_text_simple, generate_text_simple_cached]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(CFG).eval()


@pytest.fixture
def plain(model):
    """The model of chapter 4 with the same weights."""
    plain = ch04.GPTModel(CFG).eval()
    plain.load_state_dict(model.state_dict())
    return plain


def prompts(batch, length):
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(batch))


def streamed(model, ids, *args, **kwargs):
    return torch.cat([ids, *generate_text_simple_stream(model, ids, *args, **kwargs)], dim=1)


# --- the model


def test_it_is_the_model_of_chapter_4():
    torch.manual_seed(7)
    ours = GPTModel(CFG)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    plain = ch04.GPTModel(CFG)
    assert torch.rand(1).equal(drawn)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert all(weight.equal(ours.state_dict()[name]) for name, weight in plain.state_dict().items())
    assert isinstance(ours, gptlab.GPTModel)


@pytest.mark.parametrize(("source", "target"), [(GPTModel, ch04.GPTModel), (ch04.GPTModel, GPTModel)])
def test_checkpoints_load_both_ways(source, target):
    saved = source(CFG).eval()
    loaded = target(CFG).eval()
    loaded.load_state_dict(saved.state_dict())
    ids = prompts(2, 5)
    if source is GPTModel:
        saved(ids, use_cache=True)  # what was read is no part of a checkpoint
        assert not any("cache" in name for name in saved.state_dict())
        saved.reset_kv_cache()
    assert loaded(ids).equal(saved(ids))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pieces", [[12], [5, 1, 1, 5], [1] * 12])
@pytest.mark.parametrize("made_by", ["the model", "the caller", "the library"])
def test_reading_in_pieces_equals_reading_at_once(model, plain, batch, pieces, made_by):
    ids = prompts(batch, 12)
    cache = {"the model": None, "the caller": KVCache(2), "the library": gptlab.KVCache(2)}[made_by]
    read = []
    with torch.no_grad():
        for piece in ids.split(pieces, dim=1):
            read.append(model(piece, use_cache=True) if cache is None else model(piece, cache=cache))
            assert model.current_pos == sum(part.shape[1] for part in read)
        torch.testing.assert_close(torch.cat(read, dim=1), plain(ids), **CLOSE)


def test_the_book_calls_by_place(model):
    cache, ids = KVCache(2), prompts(1, 4)
    with torch.no_grad():
        model(ids, True, cache)
        assert (cache.length, model.current_pos) == (4, 4)
        model(ids, True)
        assert model.current_pos == 4  # the model's own began at 0
        model(ids, False, cache)
        assert (cache.length, model.current_pos) == (8, 8)
    model.reset_kv_cache()
    assert (cache.length, model.current_pos) == (8, 0)


@torch.no_grad()
def test_positions_follow_the_cache(model, plain):
    """A new cache, a cleared one, and a call without one begin at 0, whatever was read before."""
    cache, ids = KVCache(2), prompts(2, 6)
    model(prompts(2, 7), cache=cache)
    model(prompts(1, 7), use_cache=True)
    model.current_pos = 3
    assert model(ids).equal(plain(ids))
    assert model.current_pos == 3
    torch.testing.assert_close(model(ids, cache=KVCache(2)), plain(ids), **CLOSE)
    cache.reset()
    torch.testing.assert_close(model(ids, cache=cache), plain(ids), **CLOSE)
    model.reset_kv_cache()
    torch.testing.assert_close(model(ids, use_cache=True), plain(ids), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (prompts(2, 3), "the context holds 12 tokens, got 13"),
        (prompts(3, 1), "the cache holds a batch of 2, got 3"),
        (torch.full((2, 1), 50), r"token ids must be in \[0, 50\), got 50 to 50"),
        (prompts(2, 1)[0], r"token_ids must be \(batch, tokens\), got shape \(1,\)"),
    ],
)
def test_what_is_refused_leaves_the_cache_as_it_was(model, plain, ids, message):
    cache, text = KVCache(2), prompts(2, 11)
    model(text[:, :10], cache=cache)
    with pytest.raises(ValueError, match=message):
        model(ids, cache=cache)
    assert (cache.length, model.current_pos) == (10, 10)
    torch.testing.assert_close(model(text[:, 10:], cache=cache), plain(text)[:, 10:], **CLOSE)


def test_caches_that_do_not_fit(model):
    ids, uneven = prompts(1, 3), KVCache(2)
    uneven.update(0, (torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8)))
    for cache, message in [
        ([None, None], "cache must be a KVCache, got list"),
        (KVCache(3), "the cache is made for 3 layers, the model has 2"),
        (uneven, r"every layer of the cache must hold as many tokens, got \[3, 0\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(ids, cache=cache)


def test_the_config_reads_as_a_dictionary_too(model):
    cfg = model.cfg
    assert (cfg["n_layers"], cfg.n_layers, cfg.get("dtype")) == (2, 2, None)
    assert {**cfg} == CFG | {"tie_weights": False}
    for same in (CFG, gptlab.GPTConfig(**CFG)):
        assert cfg == same and same == cfg
    assert cfg != CFG | {"n_layers": 3} and cfg != {"n_layers": 2} and cfg != 2
    assert len({cfg, gptlab.GPTConfig(**CFG)}) == 1
    with pytest.raises(KeyError, match="n_layer"):
        _ = cfg["n_layer"]
    with pytest.raises(ValueError, match=r"missing \['n_heads'\]"):
        GPTModel({key: value for key, value in CFG.items() if key != "n_heads"})


def test_the_library_takes_the_model(model, plain):
    ids = prompts(2, 4)
    written = generate_text_simple(model, ids, 6)[:, 4:].tolist()
    assert gptlab.generate(model, ids.tolist(), max_new_tokens=6) == written
    visible = torch.ones(2, 1, 4, dtype=torch.bool)
    visible[:, :, 0] = False
    positions = torch.tensor([[0, 0, 1, 2]])
    assert model(ids, positions=positions, mask=visible).equal(plain(ids, positions=positions, mask=visible))


# --- the cache


@torch.no_grad()
def test_what_the_cache_shows(model):
    cache = KVCache(n_layers=2)
    assert cache.get_all() == [None, None] and cache.get(1) is None
    ids = prompts(3, 5)
    model(ids, cache=cache)
    for layer, (keys, values) in enumerate(cache.get_all()):
        assert keys.shape == values.shape == (3, 2, 5, 8)
        assert cache.get(layer)[0].equal(keys) and cache.get(layer)[1].equal(values)
    expected = model.trf_blocks[0].norm1(model.tok_emb(ids) + model.pos_emb.weight[:5])
    _, keys, values = model.trf_blocks[0].att.project(expected)
    torch.testing.assert_close(cache.get(0), (keys, values), **CLOSE)
    cache.reset()
    assert cache.get_all() == [None, None] and cache.length == 0


@torch.no_grad()
def test_update_replaces(model, plain):
    """Pairs moved from one cache into another, and cut there, are as good as read."""
    ids, read, other = prompts(2, 9), KVCache(2), KVCache(2)
    model(ids, cache=read)
    for layer, (keys, values) in enumerate(read.get_all()):
        other.update(layer, (keys[:, :, :6], values[:, :, :6]))
        other.update(layer, other.get(layer))  # its own content
    read.reset()
    model(prompts(2, 9).flip(0), cache=read)  # the copy does not follow
    torch.testing.assert_close(model(ids[:, 6:], cache=other), plain(ids)[:, 6:], **CLOSE)
    other.update(1, None)
    assert other.get(1) is None and other.get(0) is not None


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (5, "int"),
        (torch.zeros(2, 1, 2, 3, 8), "Tensor"),
        ((torch.zeros(1, 2, 3, 8),), r"\[\(1, 2, 3, 8\)\]"),
        ((torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 4, 8)), r"\[\(1, 2, 3, 8\), \(1, 2, 4, 8\)\]"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), r"\[\(2, 3\), \(2, 3\)\]"),
    ],
)
def test_updates_of_the_wrong_kind(value, got):
    cache = KVCache(1)
    pair = (torch.ones(1, 2, 3, 8), torch.ones(1, 2, 3, 8))
    cache.update(0, pair)
    with pytest.raises(ValueError, match=rf"value must be keys and values, both \(B, H, S, head_dim\).* got {got}"):
        cache.update(0, value)
    assert all(ours.equal(theirs) for ours, theirs in zip(cache.get(0), pair))


def test_a_cache_needs_a_layer():
    with pytest.raises(ValueError, match="n_layers and step must be >= 1, got 0 and 64"):
        KVCache(0)


# --- text


@pytest.mark.parametrize("generate", GENERATE)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("length", "context_size"), [(1, None), (4, 12), (4, 5), (12, None), (20, None), (9, 1)])
def test_cached_equals_uncached_equals_chapter_4(model, plain, generate, batch, length, context_size):
    """Also where the prompt or the new tokens pass the context, or a smaller context_size."""
    ids = prompts(batch, length)
    expected = ch04.generate_text_simple(plain, ids, 14, context_size or 12)
    assert expected.shape == (batch, length + 14)
    assert generate(model, ids, 14, context_size).equal(expected)
    assert generate(model, ids, 14, context_size, use_cache=False).equal(expected)
    assert generate(plain, ids, 14, context_size).equal(expected)  # the library's model remembers as well
    assert streamed(model, ids, 14, context_size=context_size).equal(expected)


def test_the_cache_is_used_until_the_context_is_full(model):
    """The prompt is read once and then each token alone; a window that slides is read whole."""
    read = []
    model.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    generate_text_simple(model, prompts(2, 8), 7)
    assert read == [8, 1, 1, 1, 1, 12, 12]
    read.clear()
    generate_text_simple(model, prompts(2, 8), 3, use_cache=False)
    assert read == [8, 9, 10]


def test_prompts_need_no_reset_between_them(model):
    """Neither what was generated before nor what the model's own cache holds changes the text, and it stays there."""
    first, second = prompts(1, 6), prompts(3, 4)
    expected = [generate_text_simple(model, ids, 5, use_cache=False) for ids in (first, second)]
    with torch.no_grad():
        begun = model(first[:, :3], use_cache=True)
        for ids, text in zip((first, second, first), (*expected, expected[0])):
            assert generate_text_simple(model, ids, 5).equal(text)
            assert streamed(model, ids, 5).equal(text)
        rest = model(first[:, 3:], use_cache=True)
        torch.testing.assert_close(torch.cat([begun, rest], dim=1), model(first), **CLOSE)


def test_two_streams_side_by_side(model):
    ids = [prompts(1, 5), prompts(2, 3)]
    pairs = zip(*[generate_text_simple_stream(model, prompt, 6) for prompt in ids])
    for prompt, tokens in zip(ids, zip(*pairs)):
        assert torch.cat([prompt, *tokens], dim=1).equal(generate_text_simple(model, prompt, 6))


def test_the_stream_ends_row_by_row(model):
    ids = prompts(3, 4)
    whole = generate_text_simple(model, ids, 8)[:, 4:]
    alone = whole[0].tolist()
    eos = alone[3]
    assert [int(token) for token in generate_text_simple_stream(model, ids[:1], 8, eos)] == alone[: alone.index(eos)]

    with torch.no_grad():  # for a batch, a head under which rows differ, and one of them ends early
        model.out_head.weight.normal_(generator=torch.Generator().manual_seed(2))
    whole = generate_text_simple(model, ids, 8)[:, 4:]
    eos = int(whole[1, 2])
    ends = [row.index(eos) if eos in row else 8 for row in whole.tolist()]
    assert min(ends) < max(ends)
    tokens = torch.cat(list(generate_text_simple_stream(model, ids, 8, eos)), dim=1)
    assert tokens.shape == (3, max(ends))
    for row, complete, end in zip(tokens.tolist(), whole.tolist(), ends):
        assert row == complete[:end] + [eos] * (max(ends) - end)


def test_the_caller_keeps_mode_and_gradients(model):
    model.train()
    model.trf_blocks[0].eval()
    ids = prompts(2, 4)
    text = generate_text_simple(model, ids, 3)
    for token in generate_text_simple_stream(model, ids, 3):
        assert torch.is_grad_enabled()
        assert model.training and not model.trf_blocks[0].training
        assert not token.requires_grad
    assert model.training and not model.trf_blocks[0].training
    assert generate_text_simple(model.eval(), ids, 3).equal(text)  # there was no dropout


def test_nothing_to_add(model):
    ids = prompts(2, 4)
    assert generate_text_simple(model, ids, 0).equal(ids)
    assert list(generate_text_simple_stream(model, ids, 0)) == []


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_context_size_above_the_context(model, use_cache):
    ids = prompts(1, 8)
    assert generate_text_simple(model, ids, 5, 100, use_cache).equal(generate_text_simple(model, ids, 5))
    with pytest.raises(ValueError, match="the context holds 12 tokens, got 13"):
        generate_text_simple(model, ids, 6, 100, use_cache)


@pytest.mark.parametrize("generate", [*GENERATE, generate_text_simple_stream])
def test_wrong_arguments(model, generate):
    """The stream refuses them before its first token is asked for."""
    ids = prompts(1, 4)
    with pytest.raises(ValueError, match=r"\(batch, tokens\) .* got shape \(4,\)"):
        generate(model, ids[0], 1)
    with pytest.raises(ValueError, match=r"at least one token, got shape \(1, 0\)"):
        generate(model, ids[:, :0], 1)
    with pytest.raises(ValueError, match="max_new_tokens must be >= 0, got -1"):
        generate(model, ids, -1)
    with pytest.raises(ValueError, match="context_size must be >= 1, got 0"):
        generate(model, ids, 1, context_size=0)


def test_trimming_leaves_room(model):
    ids = prompts(2, 20)
    assert trim_input_tensor(ids, 12, 5).equal(ids[:, -7:])
    assert trim_input_tensor(ids, 12, 11).equal(ids[:, -1:])
    assert trim_input_tensor(ids, 12, 0).equal(ids[:, -12:])
    assert trim_input_tensor(ids[:, :3], 12, 5).equal(ids[:, :3])
    assert generate_text_simple(model, trim_input_tensor(ids, 12, 5), 5).shape == (2, 12)
    for count in (12, 13, -1):
        with pytest.raises(ValueError, match=rf"max_new_tokens must be in \[0, 12\), the context, got {count}"):
            trim_input_tensor(ids, 12, count)
    with pytest.raises(ValueError, match=r"input_ids_tensor must be \(batch, tokens\), got shape \(20,\)"):
        trim_input_tensor(ids[0], 12, 5)


def test_the_package_has_the_names():
    for name in kv_cache.__all__:
        assert getattr(kv_cache, name) is globals()[name]
    assert kv_cache.gpt2.KVCache is KVCache
