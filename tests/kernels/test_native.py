"""The native LIF against the equations, one step and one bit at a time."""

import pytest
import torch
from torch import Tensor

from msr_zoo.kernels import native

pytestmark = pytest.mark.usefixtures("isa")

DECAY, THRESHOLD, HALF = 0.25, 0.5, 0.5


def bits_of(packed: Tensor, size: int) -> Tensor:
    return torch.tensor(
        [[row[i // 8] >> (i % 8) & 1 for i in range(size)] for row in packed.tolist()]
    ).reshape(packed.shape[0], size)


def slow_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    u, s = torch.zeros(x.shape[1]), torch.zeros(x.shape[1])
    fired, near = [], []
    for x_t in x.float():
        u = DECAY * u * (1 - s) + x_t
        s = (u > THRESHOLD).float()
        fired.append(s)
        near.append((u - THRESHOLD).abs() < HALF)
    return torch.stack(fired), torch.stack(near)


def inputs(steps: int, size: int, dtype: torch.dtype) -> Tensor:
    # Quarters put many potentials exactly on the threshold and on the edges of the window.
    torch.manual_seed(steps * 1000 + size)
    coarse = torch.randint(-4, 9, (steps, size)) / 4
    x = torch.where(torch.rand(steps, size) < 0.5, coarse, torch.randn(steps, size)).to(dtype)
    offset = torch.empty(steps * size + 1, dtype=dtype)[1:]  # not aligned to a vector
    return offset.view(steps, size).copy_(x)


SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 31, 63, 65, 1023, 1024, 1025, 1031, 2049]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6])
def test_forward_and_backward_equal_the_loop(steps, dtype):
    for size in SIZES:
        x, grad = inputs(steps, size, dtype), inputs(steps, size, dtype) * 1.7
        spikes, fired, window = native.forward(x, DECAY, THRESHOLD, HALF, True)
        expected, near = slow_forward(x)
        assert spikes.dtype == dtype
        assert torch.equal(spikes.float(), expected)
        assert torch.equal(bits_of(fired, size), expected.long())
        assert torch.equal(bits_of(window, size), near.long())
        if size % 8:  # the bits that belong to no neuron stay zero
            assert (fired[:, -1] >> (size % 8)).sum() == (window[:, -1] >> (size % 8)).sum() == 0

        g = torch.zeros(size)
        grads = []
        for t in reversed(range(steps)):
            g = grad[t].float() * near[t] + DECAY * (1 - expected[t]) * g
            grads.append(g.to(dtype))
        assert torch.equal(native.backward(grad, fired, window, DECAY), torch.stack(grads[::-1]))
        assert torch.equal(native.pack(spikes), fired)
        for other in native.DTYPES:
            assert torch.equal(native.unpack(fired, size, other), expected.to(other))


def test_without_a_gradient_nothing_is_kept():
    x = inputs(4, 1025, torch.float32)
    spikes, fired, window = native.forward(x, DECAY, THRESHOLD, HALF, False)
    assert torch.equal(spikes, slow_forward(x)[0])
    assert fired.numel() == window.numel() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity(dtype):
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 3e38]] * 2, dtype=dtype)
    spikes, fired, _ = native.forward(x, DECAY, THRESHOLD, HALF, True)
    assert spikes.tolist() == [[0, 1, 0, 1]] * 2
    full = torch.full_like(fired, 255)
    grad = native.backward(x, torch.zeros_like(fired), full, DECAY)
    assert grad[1].isnan().tolist() == [True, False, False, False]
    assert grad[1, 1:3].tolist() == [float("inf"), -float("inf")]


def test_odd_decays_round_as_torch_rounds():
    # 0.3 is no power of two, so a fused multiply-add would show.
    torch.manual_seed(0)
    x = torch.rand(6, 40_000) - 0.1
    u, s = torch.zeros(40_000), torch.zeros(40_000)
    spikes, _, _ = native.forward(x, 0.3, 0.4, HALF, False)
    for t in range(6):
        u = 0.3 * u * (1 - s) + x[t]
        s = (u > 0.4).float()
        assert torch.equal(spikes[t], s)


def test_bfloat16_gradients_round_to_nearest_even():
    torch.manual_seed(0)
    grad = torch.randn(2, 5000).bfloat16()
    ones = torch.full((2, 625), 255, dtype=torch.uint8)
    got = native.backward(grad, torch.zeros_like(ones), ones, 0.3)
    assert torch.equal(got[0], (grad[0].float() + 0.3 * grad[1].float()).bfloat16())


def test_tensors_that_the_kernels_would_read_wrongly_are_refused():
    x = torch.randn(4, 24)
    _, fired, window = native.forward(x, DECAY, THRESHOLD, HALF, True)
    across = torch.randn(24, 4).T
    bits = torch.zeros(3, 4, dtype=torch.uint8).T
    calls = {
        "x": lambda: native.forward(across, DECAY, THRESHOLD, HALF, True),
        "grad": lambda: native.backward(across, fired, window, DECAY),
        "fired": lambda: native.backward(x, bits, window, DECAY),
        "window": lambda: native.backward(x, fired, bits, DECAY),
        "spikes": lambda: native.pack(across),
        "bits": lambda: native.unpack(bits, 24, torch.float32),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name} must be contiguous, got"):
            call()
    short = fired[:, :2].contiguous()
    for name, call in {
        "fired": lambda: native.backward(x, short, window, DECAY),
        "window": lambda: native.backward(x, fired, window.int(), DECAY),
        "bits": lambda: native.unpack(short, 24, torch.float32),
    }.items():
        with pytest.raises(ValueError, match=rf"{name} must be uint8 \(4, 3\), got"):
            call()
