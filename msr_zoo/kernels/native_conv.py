"""The convolution of spikes in C++, with the batch norm, shortcut and LIF that follow it."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from msr_zoo.kernels import native
from msr_zoo.kernels.packing import (
    Packed,
    address,
    lanes_of,
    pack_tiles,
    pack_weight,
    pad_lanes,
)

__all__ = ["Norm", "conv_lif", "dense_lif", "lanes_of", "pack_tiles", "pack_weight", "pad_lanes"]

_POINTER, _LONG, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int


class _ConvLif(ctypes.Structure):
    """Mirrors `ConvLif` in csrc/conv.h."""

    _fields_ = [
        *((name, _POINTER) for name in ("spikes", "weight", "dense", "scale", "shift")),
        *((name, _POINTER) for name in ("residual", "residual_scale", "residual_shift")),
        *((name, _POINTER) for name in ("potential", "fired", "counts")),
        *((name, _LONG) for name in ("T", "B", "H", "W", "lanes_in", "OH", "OW", "lanes_out")),
        *((name, _LONG) for name in ("dense_step", "residual_step", "potential_step")),
        *((name, _LONG) for name in ("potential_stride", "kernel", "stride", "weights")),
        *((name, _FLOAT) for name in ("decay", "threshold")),
    ]


if native.library is not None:
    native.library.msr_conv_lif.argtypes = [ctypes.POINTER(_ConvLif), _INT]
    native.library.msr_count_channels.argtypes = [_POINTER] * 2 + [_LONG] * 4


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Batch norm in evaluation: one factor and one summand a lane, contiguous float32."""

    scale: Tensor
    shift: Tensor

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            address(name, getattr(self, name), torch.float32, self.scale.shape[:1])


def silent(steps: int, batch: int, height: int, width: int, channels: int) -> Tensor:
    """No spikes yet: int64 bits (T, B, H + 2, W + 2, words), with a border that stays silent."""
    words = -(-lanes_of(channels) // 64)
    return torch.zeros((steps, batch, height + 2, width + 2, words), dtype=torch.int64)


def conv_lif(
    spikes: Tensor,
    weight: Packed,
    fired: Tensor,
    *,
    lanes_in: int,
    stride: int,
    norm: Norm,
    decay: float,
    threshold: float,
    residual: Tensor | None = None,
    residual_norm: Norm | None = None,
    potential: Tensor | None = None,
    potential_stride: int = 1,
) -> Tensor:
    """Write to `fired` the spikes of LIF(norm(conv(spikes)) + residual); give their number a step.

    `weight` comes from `pack_weight` (only spikes cost time), or `pack_tables` (of narrow layers)
    or `pack_tiles` (the rate does not matter). Sums of integers are exact, and `norm` then takes
    sums in units. Residuals and potentials are (T, B, H, W, lanes), with one step where constant in
    time; the sum is kept in `potential` where given, which may be the residual itself; with a
    `potential_stride` of 2 only every second row and column is, (T, B, ceil(H / 2), ceil(W / 2),
    lanes). Of `fired` the bits of `weight.lanes_out` lanes are written; those beyond them must be
    0, as `silent` leaves them.
    """
    if weight.kernel not in (1, 3) or stride < 1:
        raise ValueError(
            f"kernels must be 1 or 3 wide and strides at least 1, got {weight.kernel} and {stride}"
        )
    call = _call(fired, weight.lanes_out, decay, threshold, residual, residual_norm)
    _keep(potential, potential_stride, call)
    call.H, call.W, call.lanes_in = spikes.shape[2] - 2, spikes.shape[3] - 2, lanes_in
    # What the caller says of the input must be what the kernel will read.
    sizes = ((call.H - 1) // stride + 1, (call.W - 1) // stride + 1)
    if sizes != (call.OH, call.OW) or weight.lanes_in != lanes_in:
        raise ValueError(
            f"spikes of {call.H} x {call.W} pixels and {lanes_in} lanes, with a stride of {stride} "
            f"and weights for {weight.lanes_in} lanes, do not give {call.OH} x {call.OW} pixels"
        )
    words = -(-lanes_in // 64)
    call.spikes = address(
        "spikes", spikes, torch.int64, (*fired.shape[:2], *spikes.shape[2:4], words)
    )
    call.weight = weight.data.data_ptr()
    call.scale, call.shift = _norm("norm", norm, weight.lanes_out)
    call.kernel, call.stride, call.weights = weight.kernel, stride, weight.layout
    return _run(call)


def dense_lif(
    dense: Tensor,
    fired: Tensor,
    *,
    decay: float,
    threshold: float,
    norm: Norm | None = None,
    residual: Tensor | None = None,
    residual_norm: Norm | None = None,
    potential: Tensor | None = None,
    potential_stride: int = 1,
) -> Tensor:
    """Like `conv_lif` from values that are convolved already: (T or 1, B, H, W, lanes).

    Where all of them are constant in time, `potential` may have one step too.
    """
    lanes_out = dense.shape[-1]
    call = _call(fired, lanes_out, decay, threshold, residual, residual_norm)
    call.dense, call.dense_step = _potentials("dense", dense, call), _step(dense)
    constant = not (call.dense_step or call.residual_step)
    _keep(potential, potential_stride, call, constant=constant)
    if norm is not None:
        call.scale, call.shift = _norm("norm", norm, lanes_out)
    return _run(call)


def _step(x: Tensor) -> int:
    return x[0].numel() if x.shape[0] > 1 else 0


def _call(
    fired: Tensor,
    lanes_out: int,
    decay: float,
    threshold: float,
    residual: Tensor | None,
    residual_norm: Norm | None,
) -> _ConvLif:
    if fired.dim() != 5 or lanes_out != lanes_of(lanes_out):
        raise ValueError(f"fired must be (T, B, H + 2, W + 2, words), for {lanes_out} lanes")
    if min(*fired.shape[:2], fired.shape[2] - 2, fired.shape[3] - 2) < 1:
        raise ValueError(f"fired must hold a step, a picture and a pixel, got {tuple(fired.shape)}")
    call = _ConvLif()
    call.T, call.B = fired.shape[:2]
    call.OH, call.OW, call.lanes_out = fired.shape[2] - 2, fired.shape[3] - 2, lanes_out
    call.decay, call.threshold = decay, threshold
    call.fired = address("fired", fired, torch.int64, (*fired.shape[:4], -(-lanes_out // 64)))
    if residual is not None:
        call.residual = _potentials("residual", residual, call)
        call.residual_step = _step(residual)
    if residual_norm is not None:
        scale, shift = _norm("residual_norm", residual_norm, lanes_out)
        call.residual_scale, call.residual_shift = scale, shift
    return call


def _keep(potential: Tensor | None, stride: int, call: _ConvLif, constant: bool = False) -> None:
    """Where the sums before LIF are to be written."""
    if stride not in (1, 2):
        raise ValueError(f"potential_stride must be 1 or 2, got {stride}")
    call.potential_stride = stride
    if potential is None:
        return
    if len(potential) != call.T and not (constant and len(potential) == 1):
        raise ValueError(f"potential must have {call.T} steps, got {len(potential)}")
    if stride > 1 and potential.data_ptr() == call.residual:
        raise ValueError("potential may not be the residual itself with a potential_stride of 2")
    if len(potential) < call.T and potential.data_ptr() == call.residual:
        raise ValueError(f"potential may not be the residual itself for {call.T} steps in one")
    height, width = -(-call.OH // stride), -(-call.OW // stride)
    shape = (len(potential), call.B, height, width, call.lanes_out)
    call.potential = address("potential", potential, torch.float32, shape)
    call.potential_step = _step(potential)


def _potentials(name: str, x: Tensor, call: _ConvLif) -> int:
    steps = call.T if len(x) == call.T else 1
    return address(name, x, torch.float32, (steps, call.B, call.OH, call.OW, call.lanes_out))


def _norm(name: str, norm: Norm, lanes: int) -> tuple[int, int]:
    if len(norm.scale) != lanes:
        raise ValueError(f"{name} must be for {lanes} lanes, got {len(norm.scale)}")
    return norm.scale.data_ptr(), norm.shift.data_ptr()


def _run(call: _ConvLif) -> Tensor:
    assert native.library is not None
    counts = torch.zeros(call.T, dtype=torch.int64)
    call.counts = counts.data_ptr()
    if native.library.msr_conv_lif(ctypes.byref(call), torch.get_num_threads()):
        raise MemoryError("no memory for the convolution of spikes")
    return counts


def count_channels(fired: Tensor) -> Tensor:
    """Spikes of each picture and lane over all steps and pixels, int32 (B, 64 * words)."""
    assert native.library is not None
    steps, batch, height, width, words = fired.shape
    at = address("fired", fired, torch.int64, fired.shape)
    counts = torch.zeros((batch, 64 * words), dtype=torch.int32)
    native.library.msr_count_channels(at, counts.data_ptr(), steps, batch, height * width, words)
    return counts
