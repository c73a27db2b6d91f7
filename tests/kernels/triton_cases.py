"""The Triton kernels against the loops in plain torch; as a script, by Triton's interpreter."""

import itertools

import torch
from torch import Tensor

from msr_zoo.kernels import triton_lif
from msr_zoo.kernels.bits import pack_bits, unpack_bits
from msr_zoo.kernels.fused import TRITON_DTYPES
from msr_zoo.kernels.lif import _lif, _lif_backward

# Decay, threshold and half the window; the last so that a silent neuron lies within.
CONSTANTS = [(0.25, 0.5, 0.5), (0.0, 0.3, 0.25), (1.0, 0.7, 1.0)]
# Steps and neurons: no multiple of 8, fewer than 8, one, several programs, none.
SHAPES = [(4, 2100), (2, 3), (1, 1), (3, 2048), (2, 0)]


def check(device: str) -> int:
    """Compare on a device, where `_lif` must not run these kernels itself; gives how often."""
    cases = list(itertools.product(TRITON_DTYPES, SHAPES, CONSTANTS))
    for dtype, shape, (decay, threshold, half_window) in cases:
        torch.manual_seed(0)
        x = torch.randn(shape).to(device, dtype)
        expected = _lif(x.cpu().double(), decay, threshold, 2 * half_window, True)
        made = triton_lif.forward(x, decay, threshold, half_window, True)
        equal(made[0], expected[0].to(dtype))
        equal(made[1], expected[1])
        equal(made[2], expected[2])
        bare, *packed = triton_lif.forward(x, decay, threshold, half_window, False)
        equal(bare, made[0])
        assert [p.shape for p in packed] == [(shape[0], 0)] * 2
        # All sums of these have an exact value in each dtype, because the interpreter rounds
        # otherwise than a GPU does.
        gradient = torch.randint(-1, 2, shape).to(device, dtype)
        expected_gradient = _lif_backward(gradient.cpu().double(), *expected[1:], decay)
        equal(triton_lif.backward(gradient, made[1], made[2], decay), expected_gradient.to(dtype))
        if shape[1]:
            bits = triton_lif.pack(x)
            equal(bits, pack_bits(x.cpu() > 0))
            equal(triton_lif.unpack(bits, shape[1], dtype), (x.cpu() > 0).to(dtype))
            assert torch.equal(unpack_bits(bits.cpu(), shape[1]), x.cpu() > 0)
    return len(cases)


def equal(made: Tensor, expected: Tensor) -> None:
    assert made.dtype == expected.dtype
    assert torch.equal(made.cpu(), expected), (made, expected)


if __name__ == "__main__":
    print(check("cpu"), "compared")
