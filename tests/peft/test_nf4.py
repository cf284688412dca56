import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gptlab.peft import nf4, replace_modules
from gptlab.peft.nf4 import (
    NF4_LEVELS,
    NF4Linear,
    QuantizedAbsmax,
    QuantizedNF4,
    dequantize_nf4,
    dynamic_levels,
    nf4_levels_from_quantiles,
    quantize_nf4,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # bitsandbytes scripts functions with torch.jit when imported
    import bitsandbytes as bnb

LEVELS = torch.tensor(NF4_LEVELS)
MIDDLES = (LEVELS[:-1] + LEVELS[1:]) / 2


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def relative_error(weight, double=True):
    return float((dequantize_nf4(quantize_nf4(weight, double=double)) - weight).norm() / weight.norm())


# Against bitsandbytes. Its own dequantised weights are compared on flat tensors only: version 0.50.2 uses wrong absmax
# values on processors with AVX-512 where the last dimension is a multiple of 16 but not of the block size.


def test_the_levels_are_those_of_bitsandbytes():
    assert LEVELS.equal(bnb.functional.get_4bit_type("nf4", device="cpu"))
    assert dynamic_levels().equal(bnb.functional.create_dynamic_map())


@pytest.mark.parametrize("block_size", [64, 128, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 13), (48, 48), (64, 64), (2, 3, 70), (600, 257)])
def test_codes_and_absmax_equal_those_of_bitsandbytes(shape, dtype, block_size):
    weight = normal(*shape, dtype=dtype)
    codes, state = bnb.functional.quantize_4bit(weight, blocksize=block_size, quant_type="nf4")
    ours = quantize_nf4(weight, block_size=block_size, double=False)
    assert ours.codes.equal(codes.view(-1))
    assert ours.absmax.equal(state.absmax)


@pytest.mark.parametrize("block_size", [64, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [70, 4096, 100_002])
def test_dequantised_weights_equal_those_of_bitsandbytes(size, dtype, block_size):
    weight = normal(size, dtype=dtype)
    codes, state = bnb.functional.quantize_4bit(weight, blocksize=block_size, quant_type="nf4")
    ours = dequantize_nf4(quantize_nf4(weight, block_size=block_size, double=False))
    assert ours.dtype == dtype
    assert ours.equal(bnb.functional.dequantize_4bit(codes, state).view(-1))


@pytest.mark.parametrize("size", [64 * 256, 64 * 256 * 3 + 130, 768 * 768])
def test_double_quantisation_follows_bitsandbytes(size):
    """Its look-up table has 65536 cells over [-1, 1], so within half a cell of a middle it may pick the other level."""
    weight = normal(size)
    codes, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    ours = quantize_nf4(weight)
    assert ours.codes.equal(codes.view(-1))
    assert ours.absmax.offset.equal(state.offset)
    assert ours.absmax.absmax.equal(state.state2.absmax)

    absmax = quantize_nf4(weight, double=False).absmax
    ratio = (absmax - state.offset) / state.state2.absmax.repeat_interleave(256)[: len(absmax)]
    error, its_error = ((dynamic_levels()[of.long()] - ratio).abs() for of in (ours.absmax.codes, state.absmax))
    assert (error <= its_error + 1e-7).all()
    assert (its_error <= error + 2 / 65535 + 1e-7).all()
    assert (ours.absmax.codes != state.absmax).float().mean() < 0.01

    its_absmax = QuantizedAbsmax(state.absmax, state.state2.absmax, state.offset)
    with_its_codes = QuantizedNF4(ours.codes, its_absmax, ours.shape, ours.dtype, 64)
    assert dequantize_nf4(with_its_codes).equal(bnb.functional.dequantize_4bit(codes, state).view(-1))


class WithBranch(nn.Module):
    """A frozen layer and a low-rank branch beside it."""

    def __init__(self, frozen, seed):
        super().__init__()
        self.frozen = frozen
        self.A = nn.Parameter(normal(4, frozen.in_features, seed=seed) / 8)
        self.B = nn.Parameter(torch.zeros(frozen.out_features, 4))

    def forward(self, x):
        return self.frozen(x) + x @ self.A.T @ self.B.T


def its_layer(linear, double):
    layer = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        compute_dtype=torch.float32,
        compress_statistics=double,
        quant_type="nf4",
    )
    layer.load_state_dict(linear.state_dict())
    return layer.requires_grad_(False).to("cpu")  # quantises


def train_branches(layers):
    """Take 20 steps towards random outputs; return the losses and what has been learned."""
    model = nn.Sequential(WithBranch(layers[0], seed=1), nn.Tanh(), WithBranch(layers[1], seed=2))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(learned) == 4
    optimizer = torch.optim.AdamW(learned, lr=1e-2)
    losses = []
    for step in range(20):
        loss = F.mse_loss(model(normal(3, 5, 64, seed=step)), normal(3, 5, 64, seed=100 + step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [torch.stack(losses), *(parameter.detach() for parameter in learned)]


@pytest.mark.parametrize("double", [False, True])
def test_twenty_steps_of_qlora_equal_those_on_bitsandbytes(double):
    linears = [nn.Linear(64, 128), nn.Linear(128, 64)]
    for seed, linear in enumerate(linears):
        linear.weight.data = normal(*linear.weight.shape, seed=3 + seed) / 8
        linear.bias.data = normal(linear.out_features, seed=5 + seed) / 8
    ours = train_branches([NF4Linear(linear, double=double) for linear in linears])
    its = train_branches([its_layer(linear, double) for linear in linears])
    # one block of absmax values in eight bits may round differently, see above; here none does
    for our, their in zip(ours, its):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-6)
    assert ours[2].abs().max() > 0.01  # B has learned something


# By hand


def test_the_levels_are_quantiles_of_the_normal_distribution():
    torch.testing.assert_close(nf4_levels_from_quantiles().float(), LEVELS, rtol=0, atol=3e-7)


def test_dynamic_levels_by_hand():
    levels = dynamic_levels()
    assert levels.shape == (256,)
    assert levels.unique().shape == (256,)
    for most, count in [(1, 64), (0.1, 32), (0.01, 16), (1e-6, 1)]:
        inside = (levels > most / 10) & (levels < most)
        assert inside.sum() == count
        assert levels[inside].mean() == pytest.approx(0.55 * most)
    assert levels[0] == -levels[-2]  # -1 is missing
    assert (levels[-1], levels[127]) == (1, 0)


def test_a_small_weight_by_hand():
    """With 2 the largest magnitude, the ratios are half of these."""
    weight = torch.tensor(
        [
            [2.00, -2.00, 0.00, 1.00, -1.00, 0.50, -0.50],  # levels 15 0 7 12 2 10 4
            [0.10, -0.10, 1.50, -1.50, 0.25, -0.25, 1.90],  # levels 8 6 14 1 9 6 15
            [0.08, 0.07, -0.09, -0.11, 1.20, -1.80, 0.70],  # levels 8 7 7 6 13 0 11, and 7 for what is missing
        ]
    )
    quantized = quantize_nf4(weight, double=False)
    assert bytes(quantized.codes.tolist()).hex() == "f07c2a486e196f8776d0b7"
    assert quantized.absmax.tolist() == [2.0]
    assert quantized.nbytes == 11 + 4
    codes, _ = bnb.functional.quantize_4bit(weight, quant_type="nf4")
    assert codes.view(-1).equal(quantized.codes)
    levels = [15, 0, 7, 12, 2, 10, 4, 8, 6, 14, 1, 9, 6, 15, 8, 7, 7, 6, 13, 0, 11]
    assert dequantize_nf4(quantized).equal(2 * LEVELS[levels].view(3, 7))


def codes_of(values):
    """The level of each value, with one at the end that makes absmax 1."""
    codes = quantize_nf4(F.pad(values, (0, 1), value=1.0), block_size=4096, double=False).codes
    return torch.stack([codes >> 4, codes & 15], dim=1).view(-1)[: len(values)].tolist()


def test_middles_go_to_the_lower_level_and_their_neighbours_where_they_belong():
    assert codes_of(MIDDLES) == list(range(15))
    assert codes_of(torch.nextafter(MIDDLES, torch.tensor(-1.0))) == list(range(15))
    assert codes_of(torch.nextafter(MIDDLES, torch.tensor(1.0))) == list(range(1, 16))


def test_the_edges_of_the_look_up_cells_have_the_right_level():
    edges = torch.arange(-16, 17) / 16
    for values in (edges, *(torch.nextafter(edges, torch.tensor(to)).clamp(-1, 1) for to in (-2.0, 2.0))):
        assert codes_of(values) == torch.bucketize(values, MIDDLES).tolist()


# Properties


@settings(deadline=None, max_examples=60)
@given(
    shape=st.lists(st.integers(1, 23), min_size=1, max_size=3),
    block_size=st.sampled_from([16, 32, 64, 512]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    exponent=st.integers(-8, 8),
    seed=st.integers(0, 1000),
)
def test_each_weight_gets_the_nearest_level_of_its_block(shape, block_size, dtype, exponent, seed):
    weight = normal(*shape, seed=seed, dtype=dtype) * 2.0**exponent
    quantized = quantize_nf4(weight, block_size=block_size, double=False)
    restored = dequantize_nf4(quantized)
    assert (restored.shape, restored.dtype) == (weight.shape, dtype)
    rounding = torch.finfo(dtype).eps + 1e-6  # of what is given back, and in float32
    for block, its in zip(weight.view(-1).double().split(block_size), restored.view(-1).double().split(block_size)):
        ratio, got = block / block.abs().max(), its / block.abs().max()
        nearest = (ratio[:, None] - LEVELS.double()).abs().amin(dim=1)
        assert ((ratio - got).abs() <= nearest + rounding).all()
        assert (ratio - got).abs().max() <= (LEVELS[1] - LEVELS[0]) / 2 + rounding  # half the widest gap
        assert (ratio * got >= 0).all()  # no sign changes
    doubled = quantize_nf4(weight, block_size=block_size)
    assert doubled.codes.equal(quantized.codes)
    assert (dequantize_nf4(doubled).shape, dequantize_nf4(doubled).dtype) == (weight.shape, dtype)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_quantising_what_was_dequantised_changes_nothing(dtype, double):
    once = quantize_nf4(normal(130, 97, dtype=dtype), double=double)
    again = quantize_nf4(dequantize_nf4(once), double=double)
    assert again.codes.equal(once.codes)
    if not double:
        assert again.absmax.equal(once.absmax)
        assert dequantize_nf4(again).equal(dequantize_nf4(once))


@pytest.mark.parametrize("factor", [2.0**-60, 0.5, 2.0**60])
def test_a_power_of_two_goes_into_absmax(factor):
    weight = normal(33, 65)
    for double in (False, True):
        plain, scaled = (quantize_nf4(w, double=double) for w in (weight, weight * factor))
        assert scaled.codes.equal(plain.codes)
        assert dequantize_nf4(scaled).equal(dequantize_nf4(plain) * factor)


def test_blocks_do_not_know_of_each_other():
    """Also where the weight is quantised in several chunks."""
    weight = normal(2**18 + 64 * 5 + 13)
    whole = quantize_nf4(weight, double=False)
    parts = [quantize_nf4(part, double=False) for part in weight.split(64 * 1001)]
    assert whole.codes.equal(torch.cat([part.codes for part in parts]))
    assert whole.absmax.equal(torch.cat([part.absmax for part in parts]))
    larger = quantize_nf4(weight, block_size=2**18, double=False)
    assert larger.absmax.equal(torch.stack([part.abs().max() for part in weight.split(2**18)]))


def test_a_block_of_zeros_stays_zero():
    weight = normal(64 * 3 + 5)
    weight[64:128] = weight[-5:] = 0.0
    for double in (False, True):
        restored = dequantize_nf4(quantize_nf4(weight, double=double))
        assert (restored[weight == 0] == 0).all()
        assert restored.isfinite().all()
    assert quantize_nf4(weight, double=False).absmax[[1, 3]].tolist() == [0.0, 0.0]
    assert dequantize_nf4(quantize_nf4(torch.zeros(3, 5))).equal(torch.zeros(3, 5))


@pytest.mark.parametrize("size", [1e-37, 1e37])
def test_extreme_magnitudes(size):
    weight = normal(128).clamp(-3, 3) * size
    restored = dequantize_nf4(quantize_nf4(weight, double=False))
    assert (restored - weight).abs().max() <= 0.16 * weight.abs().max()


def test_what_float32_can_hardly_hold_becomes_zero():
    assert dequantize_nf4(quantize_nf4(normal(128) * 1e-44, double=False)).count_nonzero() == 0


def test_a_weight_may_lie_anyhow_in_memory():
    weight = normal(70, 64)
    assert quantize_nf4(weight.T).codes.equal(quantize_nf4(weight.T.contiguous()).codes)


def test_double_quantisation_costs_little_precision():
    weight = normal(768, 768)
    assert relative_error(weight, double=False) == pytest.approx(0.092, abs=5e-4)
    assert relative_error(weight) == pytest.approx(0.092, abs=5e-4)
    absmax = quantize_nf4(weight, double=False).absmax
    doubled = quantize_nf4(weight).absmax
    rounded = dynamic_levels()[doubled.codes.long()] * doubled.absmax.repeat_interleave(256) + doubled.offset
    assert ((rounded - absmax).abs() <= 0.00704 * doubled.absmax.repeat_interleave(256)).all()


def test_bits_per_parameter_at_the_sizes_of_gpt2():
    for shape in [(768, 768), (3072, 768), (768, 3072)]:
        weight = torch.ones(shape)
        assert quantize_nf4(weight, double=False).bits_per_parameter == 4.5
        offset = 32 / weight.numel()
        assert quantize_nf4(weight).bits_per_parameter == pytest.approx(4 + 8 / 64 + 32 / (64 * 256) + offset)
        assert quantize_nf4(weight).bits_per_parameter < 4.13


@pytest.mark.parametrize(
    ("weight", "options", "error", "message"),
    [
        (torch.ones(4, dtype=torch.int64), {}, TypeError, "floating point dtype, got torch.int64"),
        (torch.ones(0, 4), {}, ValueError, r"must hold values, got shape \(0, 4\)"),
        (torch.tensor([1.0, float("nan")]), {}, ValueError, "finite in float32, got nan"),
        (torch.tensor([1.0, -float("inf")]), {}, ValueError, "finite in float32, got inf"),
        (torch.tensor([1e300], dtype=torch.float64), {}, ValueError, "finite in float32, got inf"),
        (torch.ones(4), {"block_size": 8}, ValueError, "power of two, 16 or more, got 8"),
        (torch.ones(4), {"block_size": 96}, ValueError, "power of two, 16 or more, got 96"),
        (torch.ones(4), {"block_size": 64.0}, ValueError, "power of two, 16 or more, got 64.0"),
    ],
)
def test_refused_weights(weight, options, error, message):
    with pytest.raises(error, match=message):
        quantize_nf4(weight, **options)


# The layer


def pair(bias=True, dtype=torch.float32, **options):
    """A quantised layer, and the ordinary one that computes the same."""
    linear = nn.Linear(70, 33, bias=bias, dtype=dtype)
    linear.weight.data = normal(33, 70, dtype=dtype)
    layer = NF4Linear(linear, **options)
    return layer, layer.to_linear().requires_grad_(False)


def run(module, x, **autocast):
    """What comes out, and the gradient of x."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(autocast)):
        y = module(x)
    (grad,) = torch.autograd.grad(y, x, normal(*y.shape, seed=9, dtype=y.dtype))
    return y.detach(), grad


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_it_computes_what_its_linear_layer_computes(lead, dtype, double, bias):
    layer, linear = pair(bias, dtype, double=double)
    for ours, expected in zip(run(layer, normal(*lead, 70, dtype=dtype)), run(linear, normal(*lead, 70, dtype=dtype))):
        assert ours.dtype == dtype
        assert ours.equal(expected)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(stored, dtype):
    layer, linear = pair(dtype=stored)
    x = normal(2, 3, 70, dtype=dtype)
    for (ours, expected), its_dtype in zip(
        zip(run(layer, x, autocast=True), run(linear, x, autocast=True)), (torch.bfloat16, dtype)
    ):
        assert ours.dtype == its_dtype
        assert ours.equal(expected)


def test_the_input_decides_the_dtype():
    layer, linear = pair()
    x = normal(3, 70, dtype=torch.bfloat16)
    y, grad = run(layer, x)
    assert y.equal(run(copy.deepcopy(linear).bfloat16(), x)[0])
    assert grad.dtype == torch.bfloat16


def test_gradients_of_the_input_are_right_to_the_second_order():
    layer, _ = pair(dtype=torch.float64)
    x = normal(2, 70, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_nothing_learns_but_a_bias_can_be_told_to():
    layer, linear = pair()
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert not layer.bias.requires_grad
    for module in (layer, linear):
        module.bias.requires_grad_()
        module(normal(2, 3, 70)).square().sum().backward()
    assert layer.bias.grad.equal(linear.bias.grad)


def saved_for_backward(function, x):
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        function(x)
    return sizes


def test_the_full_weight_is_not_kept_for_the_backward_pass():
    layer, _ = pair()
    x = normal(5, 70).requires_grad_()
    assert saved_for_backward(layer, x) == []
    assert layer.parameters_held == 33 * 70
    assert layer.parameters_held in saved_for_backward(lambda x: F.linear(x, layer.weight, layer.bias), x)


def test_what_is_stored_is_small():
    linear = nn.Linear(768, 768)
    layer = NF4Linear(linear)
    stored = sum(tensor.nbytes for tensor in layer.state_dict().values()) - layer.bias.nbytes
    assert stored == layer.quantized.nbytes < linear.weight.nbytes / 7.7


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_change_of_dtype_is_one_of_weight_and_bias_only(dtype, double):
    layer, _ = pair(double=double)
    weight, buffers = layer.weight, {name: buffer.clone() for name, buffer in layer.named_buffers()}
    assert nn.Sequential(layer).to(dtype)[0] is layer
    for name, buffer in layer.named_buffers():
        assert buffer.dtype == buffers[name].dtype
        assert buffer.equal(buffers[name])
    assert layer.bias.dtype == layer.to_linear().weight.dtype == dtype
    assert layer.weight.equal(weight.to(dtype))
    assert layer.float().weight.equal(weight)


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_the_short_names_of_dtypes(change):
    layer, _ = pair()
    weight = layer.weight
    change(layer)
    assert layer.weight.equal(weight.to(layer.bias.dtype))
    assert layer.codes.dtype == torch.uint8
    assert layer.absmax_offset.dtype == torch.float32


def test_moving_to_a_device_moves_all():
    layer, _ = pair()
    layer.to("meta", torch.bfloat16)
    assert {tensor.device.type for tensor in layer.state_dict().values()} == {"meta"}
    assert layer.absmax_absmax.dtype == torch.float32
    assert layer.to_empty(device="cpu").codes.device.type == "cpu"


@pytest.mark.parametrize("double", [True, False])
def test_state_dict_and_copies(double):
    layer, _ = pair(double=double)
    other = NF4Linear(nn.Linear(70, 33), double=double)
    assert not other.weight.equal(layer.weight)
    other.load_state_dict(layer.state_dict())
    assert other.weight.equal(layer.weight)
    assert other.bias.equal(layer.bias)
    copied = copy.deepcopy(layer)
    layer.codes.zero_()
    assert copied.weight.equal(other.weight)


def test_a_state_of_another_kind_does_not_fit():
    state = pair()[0].state_dict()
    for options, message in [({"block_size": 128}, "size mismatch for absmax_codes"), ({"double": False}, "absmax")]:
        with pytest.raises(RuntimeError, match=message):
            pair(**options)[0].load_state_dict(state)


def test_the_ordinary_layer_stays_as_it_is():
    linear = nn.Linear(70, 33).eval()
    weight, bias = linear.weight.clone(), linear.bias.clone()
    state = torch.get_rng_state()
    layer = NF4Linear(linear)
    back = layer.to_linear()
    assert torch.get_rng_state().equal(state)
    assert not layer.training
    assert not back.training
    back.bias.data.zero_()
    layer.bias.data.zero_()
    assert linear.bias.equal(bias)
    assert linear.weight.equal(weight)
    assert all(parameter.requires_grad for parameter in [*linear.parameters(), *back.parameters()])
    assert back.weight.equal(layer.weight)


def test_training_works_after_inference_mode():
    """What is kept for all layers must not be an inference tensor that autograd refuses."""
    for kept in (nf4._pairs, nf4._dynamic_levels_on, nf4._sixteenths):
        kept.cache_clear()
    with torch.inference_mode():
        layer = pair()[0]
        layer(normal(2, 70))
    assert run(pair()[0], normal(2, 70))[1].isfinite().all()


def test_it_goes_into_a_model_by_name(tiny):
    ids = torch.arange(6).view(1, 6)
    before = tiny(ids)
    places = replace_modules(tiny, r"trf_blocks\..*\.(W_.*|out_proj|layers\.[02])", NF4Linear)
    assert len(places) == 12
    quantised = tiny(ids)
    assert not quantised.equal(before)
    assert (quantised - before).norm() < 0.5 * before.norm()
    replace_modules(tiny, r"trf_blocks\..*\.(W_.*|out_proj|layers\.[02])", lambda layer: layer.to_linear())
    assert tiny(ids).equal(quantised)


def test_only_linear_layers():
    with pytest.raises(TypeError, match="made from an nn.Linear, got a Embedding"):
        NF4Linear(nn.Embedding(4, 4))
    with pytest.raises(ValueError, match="got 48"):
        NF4Linear(nn.Linear(4, 4), block_size=48)


def test_what_it_shows():
    shown = "NF4Linear(in_features=70, out_features=33, bias=True, block_size=64, double=True)"
    assert repr(pair()[0]) == shown
