"""LIF and the packing of spikes in Triton, for GPUs: one kernel each, which touches memory once.

The functions are those of `native`, and give bit for bit what the loops in plain torch do.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from msr_zoo.kernels.bits import bytes_of

# Bytes of bits that a program makes, of eight neurons each.
BYTES = 128


@triton.jit
def _elements(BYTES: tl.constexpr):
    """The program's bytes, and the elements behind them, one a bit."""
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    return byte, byte[:, None] * 8 + tl.arange(0, 8)[None, :]


@triton.jit
def _packed(flags):
    return tl.sum(flags.to(tl.int32) << tl.arange(0, 8)[None, :], 1).to(tl.uint8)


@triton.jit
def _unpacked(bits):
    return (bits.to(tl.int32)[:, None] >> tl.arange(0, 8)[None, :]) & 1 != 0


@triton.jit
def _forward(
    x,
    spikes,
    fired,
    near,
    steps,
    neurons,
    decay,
    threshold,
    half_window,
    KEEP: tl.constexpr,
    BYTES: tl.constexpr,
):
    byte, neuron = _elements(BYTES)
    there = neuron < neurons
    row = (neurons + 7) // 8
    u = tl.zeros((BYTES, 8), tl.float32)
    for _ in range(steps):
        u = u * decay + tl.load(x + neuron, mask=there, other=0).to(tl.float32)
        s = u > threshold
        tl.store(spikes + neuron, tl.where(s, 1.0, 0.0).to(spikes.dtype.element_ty), mask=there)
        if KEEP:
            tl.store(fired + byte, _packed(s & there), mask=byte < row)
            close = tl.abs(u - threshold) < half_window
            tl.store(near + byte, _packed(close & there), mask=byte < row)
        u = tl.where(s, 0.0, u)
        x += neurons
        spikes += neurons
        fired += row
        near += row


@triton.jit
def _backward(
    grad,
    fired,
    near,
    out,
    steps,
    neurons,
    decay,
    BYTES: tl.constexpr,
):
    byte, neuron = _elements(BYTES)
    there = neuron < neurons
    row = (neurons + 7) // 8
    last = tl.cast(steps - 1, tl.int64)
    grad += last * neurons
    out += last * neurons
    fired += last * row
    near += last * row
    g = tl.zeros((BYTES, 8), tl.float32)
    for _ in range(steps):
        s = _unpacked(tl.load(fired + byte, mask=byte < row, other=0))
        close = _unpacked(tl.load(near + byte, mask=byte < row, other=0))
        given = tl.load(grad + neuron, mask=there, other=0).to(tl.float32)
        g = tl.where(s, 0.0, g) * decay + given * tl.where(close, 1.0, 0.0)
        tl.store(out + neuron, g.to(out.dtype.element_ty), mask=there)
        grad -= neurons
        out -= neurons
        fired -= row
        near -= row


@triton.jit
def _pack(x, bits, size, BYTES: tl.constexpr):
    byte, element = _elements(BYTES)
    row = tl.program_id(1).to(tl.int64)
    flags = tl.load(x + row * size + element, mask=element < size, other=0) > 0
    length = (size + 7) // 8
    tl.store(bits + row * length + byte, _packed(flags), mask=byte < length)


@triton.jit
def _unpack(bits, out, size, BYTES: tl.constexpr):
    byte, element = _elements(BYTES)
    row = tl.program_id(1).to(tl.int64)
    length = (size + 7) // 8
    flags = _unpacked(tl.load(bits + row * length + byte, mask=byte < length, other=0))
    values = tl.where(flags, 1.0, 0.0).to(out.dtype.element_ty)
    tl.store(out + row * size + element, values, mask=element < size)


def forward(
    x: Tensor, decay: float, threshold: float, half_window: float, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, N) of contiguous x (T, N); packed spikes and windows (T, ceil(N / 8)).

    Without `keep` the two packed tensors are (T, 0).
    """
    steps, neurons = x.shape
    spikes = torch.empty_like(x)
    fired = x.new_empty((steps, bytes_of(neurons) if keep else 0), dtype=torch.uint8)
    near = torch.empty_like(fired)
    constants = (float(decay), float(threshold), float(half_window))
    _launch(_forward, x, (x, spikes, fired, near, steps, neurons, *constants), KEEP=keep)
    return spikes, fired, near


def backward(grad: Tensor, fired: Tensor, near: Tensor, decay: float) -> Tensor:
    """g_t = grad_t * near_t + decay * (1 - fired_t) * g_{t+1}, all contiguous (T, N)."""
    out = torch.empty_like(grad)
    _launch(_backward, grad, (grad, fired, near, out, *grad.shape, float(decay)))
    return out


def pack(spikes: Tensor) -> Tensor:
    """Turn contiguous spikes (R, N) into uint8 (R, ceil(N / 8)); what is above 0 counts as one."""
    rows, size = spikes.shape
    bits = spikes.new_empty((rows, bytes_of(size)), dtype=torch.uint8)
    _launch(_pack, spikes, (spikes, bits, size), rows)
    return bits


def unpack(bits: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Turn uint8 (R, ceil(size / 8)) back into 0 and 1 (R, size)."""
    out = bits.new_empty((len(bits), size), dtype=dtype)
    _launch(_unpack, out, (bits, out, size), len(bits))
    return out


def _launch(kernel: Any, x: Tensor, arguments: tuple[Any, ...], rows: int = 1, **kw: Any) -> None:
    """Run a kernel for every byte of bits of x (R, N), on its device."""
    if not x.numel():
        return
    grid = (triton.cdiv(bytes_of(x.shape[1]), BYTES), rows)
    with torch.cuda.device_of(x):
        # Products and sums are rounded apart, as torch rounds them.
        kernel[grid](*arguments, BYTES=BYTES, enable_fp_fusion=False, **kw)
