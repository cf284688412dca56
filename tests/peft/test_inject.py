import pytest
import torch
from torch import nn

from gptlab.peft import replace_modules


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


class Other(Wrapped):
    pass


def test_modules_are_replaced_by_name(tiny):
    ids = torch.arange(6).view(1, 6)
    before = tiny(ids)
    names = replace_modules(tiny, r".*\.att\.(W_query|W_value)", Wrapped)
    assert names == [f"trf_blocks.{i}.att.{name}" for i in range(2) for name in ("W_query", "W_value")]
    assert all(isinstance(tiny.get_submodule(name), Wrapped) for name in names)
    assert isinstance(tiny.trf_blocks[0].att.W_key, nn.Linear)
    assert tiny(ids).equal(before)


def test_another_kind_of_wrapper_may_follow(tiny):
    """As LoRA goes around a quantised layer."""
    replace_modules(tiny, r".*\.W_key", Wrapped)
    replace_modules(tiny, r".*\.W_key", Other)
    assert isinstance(tiny.trf_blocks[1].att.W_key.inner, Wrapped)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("W_query", "no module matches 'W_query'; names look like"),
        (r".*\.att(\..*)?", "and also 'trf_blocks.0.att.W_query' inside it"),
        (r".*\.W_key\.inner", "'trf_blocks.0.att.W_key.inner' has a Wrapped already"),
        (r".*\.W_(value|key)", r"'trf_blocks.0.att.W_key' has a Wrapped already, put in by .*W_key'"),
    ],
)
def test_refused_patterns_change_nothing(tiny, pattern, message):
    replace_modules(tiny, r".*\.W_key", Wrapped)
    kinds = {name: type(module) for name, module in tiny.named_modules()}
    with pytest.raises(ValueError, match=message):
        replace_modules(tiny, pattern, Wrapped)
    assert {name: type(module) for name, module in tiny.named_modules()} == kinds


def test_wrapping_twice_is_seen_through_another_wrapper(tiny):
    replace_modules(tiny, r".*\.W_key", Wrapped)
    replace_modules(tiny, r".*\.W_key", Other)
    with pytest.raises(ValueError, match="has a Wrapped already"):
        replace_modules(tiny, r".*\.W_key", Wrapped)


def test_make_must_return_modules(tiny):
    made = iter([nn.Identity(), None])
    with pytest.raises(TypeError, match="got a NoneType for 'trf_blocks.1.att.W_key'"):
        replace_modules(tiny, r".*\.W_key", lambda _: next(made))
    assert isinstance(tiny.trf_blocks[0].att.W_key, nn.Linear)


def test_embeddings_can_be_replaced_too(tiny):
    ids = torch.arange(6).view(1, 6)
    before = tiny(ids)
    replace_modules(tiny, "(tok|pos)_emb", Wrapped)
    assert tiny(ids).equal(before)
