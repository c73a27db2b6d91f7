"""The convolution of spikes in C++, with the batch norm, shortcut and LIF that follow it."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from msr_zoo.kernels import native
from msr_zoo.kernels.packing import Packed, lanes_of, pack_tiles, pack_weight, pad_lanes

__all__ = ["Norm", "conv_lif", "dense_lif", "lanes_of", "pack_tiles", "pack_weight", "pad_lanes"]

_POINTER, _LONG, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int


class _ConvLif(ctypes.Structure):
    """Mirrors `ConvLif` in csrc/conv.h."""

    _fields_ = [
        *((name, _POINTER) for name in ("spikes", "weight", "dense", "scale", "shift")),
        *((name, _POINTER) for name in ("residual", "residual_scale", "residual_shift")),
        *((name, _POINTER) for name in ("potential", "fired", "counts")),
        *((name, _LONG) for name in ("T", "B", "H", "W", "lanes_in", "OH", "OW", "lanes_out")),
        *((name, _LONG) for name in ("dense_step", "residual_step", "kernel", "stride", "weights")),
        *((name, _FLOAT) for name in ("decay", "threshold")),
    ]


if native.library is not None:
    native.library.msr_conv_lif.argtypes = [ctypes.POINTER(_ConvLif), _INT]
    native.library.msr_count_channels.argtypes = [_POINTER] * 2 + [_LONG] * 4


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Batch norm in evaluation: one factor and one summand a lane."""

    scale: Tensor
    shift: Tensor


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
) -> Tensor:
    """Write to `fired` the spikes of LIF(norm(conv(spikes)) + residual); give their number a step.

    `weight` comes from `pack_weight` (only spikes cost time) or `pack_tiles` (the rate does not
    matter). Sums of integers are exact, and `norm` then takes sums in units. Residuals and
    potentials are (T, B, H, W, lanes), with one step where constant in time; the sum is kept in
    `potential` where given, which may be the residual itself.
    """
    call = _call(fired, weight.lanes_out, decay, threshold, residual, residual_norm, potential)
    call.spikes, call.weight = spikes.data_ptr(), weight.data.data_ptr()
    call.scale, call.shift = norm.scale.data_ptr(), norm.shift.data_ptr()
    call.H, call.W, call.lanes_in = spikes.shape[2] - 2, spikes.shape[3] - 2, lanes_in
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
) -> Tensor:
    """Like `conv_lif` from values that are convolved already: (T or 1, B, H, W, lanes)."""
    call = _call(fired, dense.shape[-1], decay, threshold, residual, residual_norm, potential)
    call.dense, call.dense_step = dense.data_ptr(), _step(dense)
    if norm is not None:
        call.scale, call.shift = norm.scale.data_ptr(), norm.shift.data_ptr()
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
    potential: Tensor | None,
) -> _ConvLif:
    call = _ConvLif()
    call.T, call.B = fired.shape[:2]
    call.OH, call.OW, call.lanes_out = fired.shape[2] - 2, fired.shape[3] - 2, lanes_out
    call.decay, call.threshold, call.fired = decay, threshold, fired.data_ptr()
    if residual is not None:
        call.residual, call.residual_step = residual.data_ptr(), _step(residual)
    if residual_norm is not None:
        call.residual_scale = residual_norm.scale.data_ptr()
        call.residual_shift = residual_norm.shift.data_ptr()
    if potential is not None:
        call.potential = potential.data_ptr()
    return call


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
    counts = torch.zeros((batch, 64 * words), dtype=torch.int32)
    native.library.msr_count_channels(
        fired.data_ptr(), counts.data_ptr(), steps, batch, height * width, words
    )
    return counts
