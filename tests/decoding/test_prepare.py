"""A prepared copy writes what the model writes."""

import pytest
import torch
from torch import nn

from gptlab.config import GPTConfig
from gptlab.decoding import generate, prepare, prepare_for_decoding
from gptlab.model import GPTModel

IDS = torch.arange(24).view(2, 12)
pytestmark = pytest.mark.filterwarnings("ignore:this PyTorch or processor lacks")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_gives_the_same_logits_and_tokens(tied, bias):
    model = GPTModel(GPTConfig(vocab_size=300, context_length=64, emb_dim=32, n_heads=4, n_layers=2, drop_rate=0.1,
                               qkv_bias=bias, tie_weights=tied)).eval()  # fmt: skip
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = torch.get_rng_state()
    prepared = prepare_for_decoding(model)
    assert torch.get_rng_state().equal(state)
    torch.testing.assert_close(prepared(IDS), model(IDS), rtol=1e-5, atol=1e-6)
    prompts = [[1], [5, 6, 7], [9] * 20]
    assert generate(prepared, prompts, max_new_tokens=20) == generate(model, prompts, max_new_tokens=20)
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())


def test_the_model_itself_goes_on_learning(tiny):
    learning = [name for name, parameter in tiny.named_parameters() if parameter.requires_grad]
    prepare_for_decoding(tiny)
    assert [name for name, parameter in tiny.named_parameters() if parameter.requires_grad] == learning


@pytest.mark.parametrize("weights, bound", [("half", 1e-3), ("int8", 0.03)])
def test_rounded_weights_are_close(tiny, weights, bound):
    expected = tiny(IDS)
    error = (prepare_for_decoding(tiny, weights)(IDS) - expected).norm() / expected.norm()
    assert error < bound


@pytest.mark.parametrize("weights", ["packed", "half", "int8"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_sixteen_bits(tiny, weights, dtype):
    expected = tiny(IDS)
    model = tiny.to(dtype)
    prepared = prepare_for_decoding(model, weights)
    assert prepared(IDS).dtype == dtype
    assert (prepared(IDS).float() - expected).norm() < 0.03 * expected.norm()
    assert generate(prepared, [[1, 2], [3]], max_new_tokens=3)


def test_layers_of_another_kind_stay(tiny):
    """Such as those that a tuning method puts in."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    query = tiny.trf_blocks[0].att.W_query
    doubled = Doubled(query.in_features, query.out_features)
    tiny.trf_blocks[0].att.W_query = doubled
    prepared = prepare_for_decoding(tiny)
    assert type(prepared.trf_blocks[0].att.W_query) is Doubled
    torch.testing.assert_close(prepared(IDS), tiny(IDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", ["packed", "half", "int8"])
def test_without_the_operators_it_works_unprepared_and_says_so(tiny, weights, monkeypatch):
    monkeypatch.setattr(prepare, "_is_right", lambda layer, dtype: False)
    with pytest.warns(UserWarning, match=f"lacks the kernels for weights='{weights}' of torch.float32"):
        prepared = prepare_for_decoding(tiny, weights)
    assert prepared(IDS).equal(tiny(IDS))


def test_a_layer_whose_results_are_wrong_is_not_used():
    class Wrong(prepare.PreparedLinear):
        def __init__(self, linear):
            super().__init__()
            self.linear = linear

        def forward(self, x):
            return self.linear(x) * 1.1

    assert not prepare._is_right(Wrong, torch.float32)


@pytest.mark.parametrize("weights", ["packed", "half", "int8"])
def test_a_prepared_model_cannot_be_saved(tiny, weights):
    prepared = prepare_for_decoding(tiny, weights)
    if any(isinstance(module, prepare.PreparedLinear) for module in prepared.modules()):
        with pytest.raises(ValueError, match="prepared for decoding cannot be saved; save the one"):
            prepared.state_dict()


def test_another_layout(tiny):
    with pytest.raises(ValueError, match="weights must be 'packed', 'half' or 'int8', got 'int4'"):
        prepare_for_decoding(tiny, "int4")
