"""NF4: frozen weights in four bits each, as QLoRA stores them.

The weights of a trained model look like draws from a normal distribution. NF4 ("4-bit NormalFloat") therefore takes
sixteen levels in [-1, 1] of which a normal weight uses each about equally often. A weight matrix is read row by row
and cut into blocks of 64; a block keeps its largest magnitude in float32, and for each weight the number of the
nearest level:

    absmax = max |w|        code = the nearest level to w / absmax        w_hat = NF4_LEVELS[code] * absmax

One float32 for 64 weights is half a bit for each. **Double quantisation** stores these float32 numbers in eight bits:
it takes away their mean, and does the same again in blocks of 256, with the 256 levels of `dynamic_levels`. A weight
then takes 4 + 8 / 64 + 32 / (64 * 256) = 4.127 bits.

`NF4Linear` is a frozen linear layer that holds nothing else. It makes the full weight anew in every forward pass, and
again in the backward pass, because a weight that autograd kept in between would take all the memory that was saved.

The codes are those of bitsandbytes, which QLoRA's authors wrote: the same levels, rounding, packing and blocks. What is
left out is what makes it fast on a GPU, a matrix product that reads the codes itself.

Source: Dettmers et al. 2023, arXiv 2305.14314, section 3; Dettmers et al. 2021, arXiv 2110.02861, for the eight bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

_SECOND_BLOCK = 256  # in double quantisation, absmax values per block
_CHUNK = 2**17  # weights quantised at once: few enough for the processor's cache


def nf4_levels_from_quantiles() -> Tensor:
    """Return the levels as the paper derives them, in float64: NF4_LEVELS are these, rounded on the way.

    They are quantiles of the normal distribution, evenly spread in probability, scaled into [-1, 1]. A zero has to be
    among them, so both sides are made alone: eight levels above zero, seven below. The outermost lies between the
    middle of the last of 16 equally likely bins, 1 - 1/32, and that of the last of 15.
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    above, below = (
        torch.special.ndtri(torch.linspace(outermost, 0.5, count + 1, dtype=torch.float64)[:-1]) for count in (8, 7)
    )
    return torch.cat([-below, torch.zeros(1, dtype=torch.float64), above.flip(0)]) / above.max()


def dynamic_levels() -> Tensor:
    """Return the 256 levels of double quantisation, (256,) float32 in rising order: fine near zero, coarse near one.

    After the sign, the seven other bits of a code say first how small the number is: each further zero in front means
    ten times smaller. The first one ends that, and what is left counts evenly from 0.1 to 1 of that size. So there are
    64 levels between 0.1 and 1, then 32 between 0.01 and 0.1, and so on down to one; all of them in both signs. Two
    codes are left over. They are 0 and 1; there is no -1, the lowest level being -0.993.
    """
    levels = [torch.tensor([0.0, 1.0], dtype=torch.float32, device="cpu")]
    for zeros in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (6 - zeros) + 1, dtype=torch.float32, device="cpu")
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0**-zeros
        levels += [middles, -middles]
    return torch.cat(levels).sort().values


@dataclass(frozen=True, eq=False)
class QuantizedAbsmax:
    """The largest magnitudes of all blocks, in eight bits each.

    Attributes:
        codes: numbers of levels, (blocks,) uint8.
        absmax: the largest magnitude of each 256 of them, less the offset, float32.
        offset: their mean, () float32.
    """

    codes: Tensor
    absmax: Tensor
    offset: Tensor

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.absmax.nbytes + self.offset.nbytes


@dataclass(frozen=True, eq=False)
class QuantizedNF4:
    """A tensor in NF4.

    Attributes:
        codes: numbers of levels, two to a byte, the first in the high half; uint8. An odd last half holds the zero.
        absmax: the largest magnitude of each block, (blocks,) float32, or the same in eight bits.
        shape: of the tensor.
        dtype: of the tensor.
        block_size: how many of its values have one absmax.
    """

    codes: Tensor
    absmax: Tensor | QuantizedAbsmax
    shape: torch.Size
    dtype: torch.dtype
    block_size: int

    @property
    def nbytes(self) -> int:
        """Memory of everything that is stored."""
        return self.codes.nbytes + self.absmax.nbytes

    @property
    def bits_per_parameter(self) -> float:
        return 8 * self.nbytes / self.shape.numel()


@torch.no_grad()
def quantize_nf4(weight: Tensor, *, block_size: int = 64, double: bool = True) -> QuantizedNF4:
    """Round a tensor to NF4.

    A value in the middle between two levels goes to the lower one. The last block may be shorter than the others.

    >>> quantized = quantize_nf4(torch.tensor([[0.5, -2.0], [0.0, 1.0]]), double=False)
    >>> [f"{code:02x}" for code in quantized.codes.tolist()]  # levels 10 and 0, then 7 and 12
    ['a0', '7c']
    >>> dequantize_nf4(quantized)
    tensor([[ 0.4922, -2.0000],
            [ 0.0000,  0.8814]])

    Args:
        weight: floating point numbers of any shape, on any device.
        block_size: how many values share one absmax; more take less memory and round worse.
        double: whether the absmax values are rounded as well, to eight bits.

    Raises:
        ValueError: `weight` is empty or holds a value that is not finite in float32, or `block_size` is not a power of
            two from 16 on.
        TypeError: `weight` does not hold floating point numbers.
    """
    if not weight.is_floating_point():
        raise TypeError(f"weight must be of a floating point dtype, got {weight.dtype}")
    if weight.numel() == 0:
        raise ValueError(f"weight must hold values, got shape {tuple(weight.shape)}")
    if not isinstance(block_size, int) or block_size < 16 or block_size & (block_size - 1):
        raise ValueError(f"block_size must be a power of two, 16 or more, got {block_size!r}")
    values = weight.reshape(-1)
    codes = torch.empty((len(values) + 1) // 2, dtype=torch.uint8, device=weight.device)
    absmax = torch.empty(-(-len(values) // block_size), dtype=torch.float32, device=weight.device)
    chunk = max(_CHUNK, block_size)
    for part, its_codes, its_absmax in zip(
        values.split(chunk), codes.split(chunk // 2), absmax.split(chunk // block_size)
    ):
        _quantize_into(its_codes, its_absmax, part, block_size)
    return QuantizedNF4(codes, _quantize_absmax(absmax) if double else absmax, weight.shape, weight.dtype, block_size)


def dequantize_nf4(quantized: QuantizedNF4) -> Tensor:
    """Return the levels that the codes stand for times their absmax, in the shape and dtype of the quantised tensor."""
    absmax = quantized.absmax
    if isinstance(absmax, QuantizedAbsmax):
        absmax = _dequantize_absmax(absmax)
    pairs = _pairs(quantized.codes.device).index_select(0, quantized.codes.int())
    values = _multiply_blocks(pairs.view(torch.float32), absmax, quantized.block_size)
    return values[: quantized.shape.numel()].view(quantized.shape).to(quantized.dtype)


class NF4Linear(nn.Module):
    """A linear layer with its weight in NF4: y = x w_hat^T + b, computed in the dtype of x, or in autocast's.

    Nothing in it learns; gradients pass through to x. `.to(dtype)` changes the dtype of `weight` and `bias`, but never
    what is stored. A state_dict fits a layer that was made from a linear layer of the same shape, with the same
    `block_size` and `double`.

    Args:
        linear: the layer to quantise; it stays as it is.
        block_size: see `quantize_nf4`.
        double: see `quantize_nf4`.

    Raises:
        TypeError: `linear` is no nn.Linear, or `quantize_nf4` refuses its weight.
        ValueError: `quantize_nf4` refuses its weight or `block_size`.
    """

    def __init__(self, linear: nn.Linear, *, block_size: int = 64, double: bool = True) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"NF4Linear is made from an nn.Linear, got a {type(linear).__name__}")
        quantized = quantize_nf4(linear.weight, block_size=block_size, double=double)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype, self.block_size, self.double = quantized.dtype, block_size, double
        self.register_buffer("codes", quantized.codes)
        if double:
            self.register_buffer("absmax_codes", quantized.absmax.codes)
            self.register_buffer("absmax_absmax", quantized.absmax.absmax)
            self.register_buffer("absmax_offset", quantized.absmax.offset)
        else:
            self.register_buffer("absmax", quantized.absmax)
        bias = linear.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.train(linear.training)

    @property
    def quantized(self) -> QuantizedNF4:
        """What is stored instead of the weight; the tensors are the layer's own."""
        if self.double:
            absmax = QuantizedAbsmax(self.absmax_codes, self.absmax_absmax, self.absmax_offset)
        else:
            absmax = self.absmax
        shape = torch.Size((self.out_features, self.in_features))
        return QuantizedNF4(self.codes, absmax, shape, self.dtype, self.block_size)

    @property
    def weight(self) -> Tensor:
        """The full weight, (out, in), made anew each time: nothing that is done to it stays."""
        return dequantize_nf4(self.quantized)

    @property
    def parameters_held(self) -> int:
        """How many weights the codes stand for."""
        return self.in_features * self.out_features

    def forward(self, x: Tensor) -> Tensor:
        linear = _FrozenLinear.apply
        if torch.compiler.is_compiling():  # it cannot trace this, and the layer gains nothing by being compiled
            linear = torch.compiler.disable(linear)
        return linear(x, self.bias, self.quantized)

    def to_linear(self) -> nn.Linear:
        """Return an ordinary linear layer with the weight as it is now, after rounding; all of it can learn."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear.train(self.training)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"block_size={self.block_size}, double={self.double}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NF4Linear:
        """Apply what `.to`, `.half`, `.cuda` and their like do to all tensors, but keep the dtypes of the buffers."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = self._buffers[name]
            if after.dtype != buffer.dtype:  # rounded by fn, so only its device is taken
                self._buffers[name] = buffer.to(after.device)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=before["codes"].device)).dtype
        return self


class _FrozenLinear(torch.autograd.Function):
    """F.linear that keeps the codes for the backward pass, not the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, quantized: QuantizedNF4) -> Tensor:
        ctx.quantized = quantized
        weight = dequantize_nf4(quantized).to(x.dtype)  # (out, in)
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))  # autocast takes it from here

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y @ dequantize_nf4(ctx.quantized).to(grad_y.dtype)  # (..., out) @ (out, in)
        if ctx.needs_input_grad[1]:
            grad_bias = grad_y.reshape(-1, grad_y.shape[-1]).sum(0)
        return grad_x, grad_bias, None


def _quantize_into(packed: Tensor, absmax: Tensor, values: Tensor, block_size: int) -> None:
    """Write the packed codes of flat values, and the absmax of their blocks."""
    ratios, absmax[:] = _divide_by_absmax(values.float(), block_size)
    if not absmax.isfinite().all():
        raise ValueError(f"weight must be finite in float32, got {absmax[~absmax.isfinite()][0]}")
    codes = _nearest_level(ratios)
    packed[:] = (codes[::2] << 4 | codes[1::2])[: len(packed)]


def _nearest_level(ratios: Tensor) -> Tensor:
    """Return how many middles between two levels lie below each ratio, which is its code: (n,) uint8.

    This is torch.bucketize(ratios, middles) in a third of the time. Middles are further apart than a sixteenth. So the
    sixteenth of [-1, 1] that a ratio is in says all but whether it lies above the one middle in there.
    """
    below, middle = _sixteenths(ratios.device)
    place = ((ratios + 1) * 16).int()  # no middle is so near to an edge that rounding could matter
    return below.index_select(0, place) + (ratios > middle.index_select(0, place))


@cache
def _sixteenths(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return how many middles lie below each sixteenth of [-1, 1], (33,) uint8, and the next middle, (33,) float32."""
    middles = _middles(_levels_on(device))
    edges = torch.arange(-16, 17, dtype=torch.float32, device=device) / 16
    below = torch.bucketize(edges, middles)
    return below.to(torch.uint8), F.pad(middles, (0, 1), value=torch.inf)[below]


def _quantize_absmax(absmax: Tensor) -> QuantizedAbsmax:
    offset = absmax.mean()
    ratios, second = _divide_by_absmax(absmax - offset, _SECOND_BLOCK)
    codes = torch.bucketize(ratios[: len(absmax)], _middles(_dynamic_levels_on(absmax.device)))
    return QuantizedAbsmax(codes.to(torch.uint8), second, offset)


def _dequantize_absmax(absmax: QuantizedAbsmax) -> Tensor:
    values = _dynamic_levels_on(absmax.codes.device).index_select(0, absmax.codes.int())
    return _multiply_blocks(values, absmax.absmax, _SECOND_BLOCK) + absmax.offset


def _divide_by_absmax(values: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Return flat values, with zeros behind them up to a whole block, divided by the absmax of their block; and that.

    A block of zeros stays one.
    """
    missing = -len(values) % block_size
    blocks = (F.pad(values, (0, missing)) if missing else values).view(-1, block_size)
    absmax = blocks.abs().amax(dim=1)  # (blocks,); NaN and infinity come through
    factors = 1 / absmax.clamp(min=torch.finfo(torch.float32).tiny)
    return (blocks * factors[:, None]).view(-1), absmax


def _multiply_blocks(values: Tensor, absmax: Tensor, block_size: int) -> Tensor:
    """Multiply flat values in place by the absmax of their block, of which the last may be short."""
    whole = len(values) // block_size
    values[: whole * block_size].view(-1, block_size).mul_(absmax[:whole, None])
    values[whole * block_size :].mul_(absmax[-1])
    return values


def _middles(levels: Tensor) -> Tensor:
    return (levels[:-1] + levels[1:]) / 2


def _levels_on(device: torch.device) -> Tensor:
    return torch.tensor(NF4_LEVELS, dtype=torch.float32, device=device)


@cache
def _dynamic_levels_on(device: torch.device) -> Tensor:
    return dynamic_levels().to(device)


@cache
def _pairs(device: torch.device) -> Tensor:
    """Return both levels of every byte, as one int64 that has the bits of two float32: (256,).

    One look-up then serves two weights. This was the fastest of many ways to do it.
    """
    levels = _levels_on(device)
    pairs = torch.stack([levels.repeat_interleave(16), levels.repeat(16)], dim=1)  # (256, 2): high half, low half
    return pairs.view(torch.int64).view(-1)
