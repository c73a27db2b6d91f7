"""Weights of a convolution of spikes in the layouts of the native kernels (csrc/conv.h)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

# A list names rows of weights in 16 bits, and 3 x 3 x 4096 rows fit.
MAX_LANES = 4096
FLOAT_ROWS, BYTE_ROWS, FLOAT_TABLES, SHORT_TABLES, TILES, TILES_3 = range(6)
# Lanes in and out of a layer that `pack_tables` takes.
NARROW = 16
# The largest number of three digits from -128 to 127: 127 * (1 + 256 + 65536).
_MOST_24 = 8_355_711


def lanes_of(channels: int) -> int:
    """Channels padded to what the kernels work with: 16, 32 or a multiple of 64."""
    return next((n for n in (16, 32) if channels <= n), -(-channels // 64) * 64)


def pad_lanes(x: Tensor) -> Tensor:
    """Pad the last dimension, the channels, to lanes; contiguous."""
    missing = lanes_of(x.shape[-1]) - x.shape[-1]
    return (F.pad(x, (0, missing)) if missing else x).contiguous()


def address(name: str, x: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> int:
    """Where a tensor's memory begins; an error where a kernel would find there what it is not."""
    if x.dtype != dtype or not x.is_cpu or not x.is_contiguous():
        layout = "contiguous" if x.is_contiguous() else "not contiguous"
        raise TypeError(
            f"{name} must be contiguous {dtype} on the CPU, got {x.dtype} on {x.device}, {layout}"
        )
    if x.shape != shape:
        raise ValueError(f"{name} must be {tuple(shape)}, got {tuple(x.shape)}")
    return x.data_ptr()


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Weights as one of the kernels reads them."""

    data: Tensor
    layout: int
    lanes_in: int
    lanes_out: int
    kernel: int

    def __post_init__(self) -> None:
        """Raise an error where the data are not what the layout says (csrc/conv.h)."""
        rows = self.kernel**2 * self.lanes_in
        if self.layout in (FLOAT_ROWS, BYTE_ROWS):
            size = (rows + 1) * self.lanes_out
        elif self.layout in (FLOAT_TABLES, SHORT_TABLES):
            if (self.lanes_in, self.lanes_out) != (NARROW, NARROW):
                lanes = f"{self.lanes_in} to {self.lanes_out}"
                raise ValueError(f"tables are for {NARROW} lanes in and out, got {lanes}")
            size = rows * 4 * NARROW
        else:
            size = -(-rows // 64) * 64 * self.lanes_out * (3 if self.layout == TILES_3 else 1)
        dtype = {
            FLOAT_ROWS: torch.float32,
            FLOAT_TABLES: torch.float32,
            SHORT_TABLES: torch.int16,
        }.get(self.layout, torch.int8)
        address("packed weights", self.data, dtype, self.data.shape)
        if self.data.numel() != size:
            raise ValueError(f"packed weights must be {size} numbers, got {self.data.numel()}")


def pack_weight(weight: Tensor) -> Packed:
    """Pack (O, I, k, k) for the event-driven kernels: float32, or int8 whose sums are int32."""
    rows = F.pad(_rows(weight), (0, 1))  # one row of zeros behind the others
    columns = pad_lanes(rows.T)  # (k * k * lanes_in + 1, lanes_out)
    block = min(columns.shape[1], 64)
    return Packed(
        data=columns.unflatten(1, (-1, block)).transpose(0, 1).contiguous(),
        layout=BYTE_ROWS if weight.dtype == torch.int8 else FLOAT_ROWS,
        lanes_in=lanes_of(weight.shape[1]),
        lanes_out=columns.shape[1],
        kernel=weight.shape[2],
    )


def pack_tables(weight: Tensor) -> Packed:
    """Pack (O, I, k, k) of at most 16 channels, float32 or int8, as sums of every four inputs.

    The sums of float32 are rounded once.
    """
    rows = pad_lanes(_rows(weight).T)  # (k * k * lanes_in, lanes_out)
    fours = rows.double().unflatten(0, (-1, 4))
    chosen = torch.arange(16)[:, None] >> torch.arange(4) & 1
    sums = torch.einsum("si,gio->gso", chosen.double(), fours)
    whole = weight.dtype == torch.int8
    return Packed(
        data=sums.to(torch.int16 if whole else torch.float32).contiguous(),
        layout=SHORT_TABLES if whole else FLOAT_TABLES,
        lanes_in=lanes_of(weight.shape[1]),
        lanes_out=rows.shape[1],
        kernel=weight.shape[2],
    )


def pack_tiles(weight: Tensor) -> Packed:
    """Pack (O, I, k, k) for the dense kernel: int8, or int32 that `fixed_point` gave."""
    rows = _rows(weight)
    rows = F.pad(rows, (0, -rows.shape[1] % 64, 0, lanes_of(rows.shape[0]) - rows.shape[0]))
    digits = [rows]
    if weight.dtype != torch.int8:
        low = _last_digit(rows)
        rest = (rows - low) >> 8
        middle = _last_digit(rest)
        digits = [low, middle, (rest - middle) >> 8]
    planes = torch.stack([digit.to(torch.int8) for digit in digits])
    # Columns of a group: 16 or 32 outputs, or the three digits of 16.
    columns = len(digits) if len(digits) > 1 else min(rows.shape[0] // 16, 2)
    planes = planes.unflatten(1, (-1, 16)).transpose(0, 1).flatten(0, 1)
    # (groups, columns, 16 outputs, words, 16, 4 inputs) -> (groups, words, columns, 16, 16, 4)
    planes = planes.unflatten(0, (-1, columns)).unflatten(3, (-1, 16, 4))
    return Packed(
        data=planes.permute(0, 3, 1, 4, 2, 5).contiguous(),
        layout=TILES if len(digits) == 1 else TILES_3,
        lanes_in=lanes_of(weight.shape[1]),
        lanes_out=rows.shape[0],
        kernel=weight.shape[2],
    )


def fixed_point(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Float weights (O, I, k, k) as int32 of 24 bits, and the power of two (O,) of a unit.

    The error of a weight is about 2**-23 of the largest one of its output channel, so sums are
    closer to the real ones than float32 additions are.
    """
    largest = weight.abs().amax((1, 2, 3)).double()
    exponent = torch.frexp(largest / _MOST_24).exponent.clamp(min=-149)  # float32 has no smaller
    unit = torch.ldexp(torch.ones_like(largest), exponent).float()
    return (weight / unit[:, None, None, None]).round_().int(), unit


def pack_fixed_point(weight: Tensor) -> tuple[Packed, Tensor]:
    """Pack float weights (O, I, k, k) for the dense kernel, and give the units (O,) of its sums.

    Equal to `pack_tiles` of `fixed_point`, but in parts, see `in_parts`.
    """
    units = []

    def pack(part: Tensor) -> Packed:
        digits, unit = fixed_point(part)
        units.append(unit)
        return pack_tiles(digits)

    packed = in_parts(weight, pack, 16)  # the three digits of 16 outputs lie together
    return packed, torch.cat(units)[: len(weight)]


def in_parts(weight: Tensor, pack: Callable[[Tensor], Packed], size: int = 64) -> Packed:
    """Pack weights (O, I, k, k), a few outputs at a time: what is made on the way is smaller."""
    lanes = lanes_of(len(weight))
    padded = F.pad(weight, (0, 0) * 3 + (0, lanes - len(weight))) if len(weight) < lanes else weight
    first, *others = padded.split(size)
    packed = pack(first)
    if not others:
        return packed
    groups = len(packed.data)
    data = packed.data.new_empty((groups * (1 + len(others)), *packed.data.shape[1:]))
    data[:groups] = packed.data
    for i, part in enumerate(others, start=1):
        data[i * groups : (i + 1) * groups] = pack(part).data
    return replace(packed, data=data, lanes_out=lanes)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Float weights (O, I, k, k) as int8, and what a unit of each channel (O,) is worth.

    Each is rounded to the nearest, but for the few closest to a half that go the other way, so that
    the sum of a channel's weights is kept: inputs are spikes, never negative, and would add up an
    error of the sum.
    """
    unit = unit_of(weight)
    exact = (weight / unit[:, None, None, None]).flatten(1)
    rounded = exact.round()
    missing = (exact - rounded).sum(1, keepdim=True).round()
    towards = (exact - rounded) * missing.sign()
    most = int(missing.abs().max())
    closest = towards.topk(most, 1).indices  # the closest first
    other_way = torch.where(torch.arange(most) < missing.abs(), missing.sign(), 0.0)
    rounded.scatter_add_(1, closest, other_way)
    return rounded.view_as(weight).to(torch.int8), unit


def unit_of(weight: Tensor) -> Tensor:
    """What a unit of each channel's int8 weights (O,) is worth."""
    largest = weight.abs().amax((1, 2, 3))
    return torch.where(largest > 0, largest, 1.0) / 127


def _last_digit(x: Tensor) -> Tensor:
    """What is left of integers modulo 256, from -128 to 127."""
    return ((x + 128) & 255) - 128


def _rows(weight: Tensor) -> Tensor:
    """(O, I, k, k) -> (O, k * k * lanes_in)."""
    if lanes_of(weight.shape[1]) > MAX_LANES:
        raise ValueError(f"at most {MAX_LANES} input channels, got {weight.shape[1]}")
    return pad_lanes(weight.permute(0, 2, 3, 1)).flatten(1)
