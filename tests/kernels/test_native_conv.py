"""The event-driven convolution against torch's, on weights whose sums are exact in float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_zoo.kernels import native_conv

pytestmark = pytest.mark.usefixtures("isa")

DECAY, THRESHOLD = 0.25, 0.5


def pack(spikes: Tensor) -> Tensor:
    """(T, B, C, H, W) of 0 and 1 to bits, one at a time in Python's integers."""
    steps, batch, channels, height, width = spikes.shape
    bits = native_conv.silent(steps, batch, height, width, channels)
    padded = F.pad(spikes, (1, 1, 1, 1))
    for c in range(channels):
        value = 1 << c % 64
        bits[..., c // 64] |= padded[:, :, c].long() * (value - 2**64 if value >> 63 else value)
    return bits


def unpack(bits: Tensor, channels: int) -> Tensor:
    inner = bits[:, :, 1:-1, 1:-1]
    planes = [inner[..., c // 64] >> (c % 64) & 1 for c in range(channels)]
    return torch.stack(planes, 2).float()


def slow_lif(x: Tensor) -> Tensor:
    u, s, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for x_t in x:
        u = DECAY * u * (1 - s) + x_t
        s = (u > THRESHOLD).float()
        spikes.append(s)
    return torch.stack(spikes)


def channels_last(x: Tensor) -> Tensor:
    return native_conv.pad_lanes(x.movedim(2, -1))


CASES = [((1, 1), 2, 0.6), ((1, 7), 5, 0.2), ((5, 1), 1, 0.2), ((7, 9), 5, 0.2), ((2, 3), 3, 1.0)]
CHANNELS = [(1, 1), (3, 16), (16, 16), (16, 32), (17, 33), (64, 64), (65, 130), (128, 7)]


@pytest.mark.parametrize(("channels_in", "channels_out"), CHANNELS)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
def test_equals_torch(channels_in, channels_out, kernel, stride):
    torch.manual_seed(channels_in * channels_out + kernel + stride)
    norms = {}
    for name in ("norm", "residual_norm"):
        scale, shift = (torch.randint(-4, 5, (channels_out,)) / 4 for _ in range(2))
        norms[name] = (scale, shift)
    packed = {
        name: native_conv.Norm(
            scale=native_conv.pad_lanes(scale), shift=native_conv.pad_lanes(shift)
        )
        for name, (scale, shift) in norms.items()
    }
    weight = torch.randint(-8, 9, (channels_out, channels_in, kernel, kernel)) / 16
    for (height, width), steps, rate in CASES:
        spikes = (torch.rand(steps, 2, channels_in, height, width) < rate).float()
        convolved = F.conv2d(spikes.flatten(0, 1), weight, None, stride, kernel // 2)
        convolved = convolved.unflatten(0, (steps, 2))
        residual = torch.randint(-8, 9, convolved.shape) / 8
        (scale, shift), (residual_scale, residual_shift) = (
            [v[:, None, None] for v in norm] for norm in norms.values()
        )
        expected = convolved * scale + shift + (residual * residual_scale + residual_shift)

        fired = native_conv.silent(steps, 2, *convolved.shape[-2:], channels_out)
        kept = channels_last(residual).clone()  # written in place
        counts = native_conv.conv_lif(
            pack(spikes),
            native_conv.pack_weight(weight),
            fired,
            lanes_in=native_conv.lanes_of(channels_in),
            stride=stride,
            decay=DECAY,
            threshold=THRESHOLD,
            residual=kept,
            potential=kept,
            **packed,
        )
        assert torch.equal(kept, channels_last(expected))
        assert torch.equal(fired, pack(slow_lif(expected)))
        assert torch.equal(unpack(fired, channels_out), slow_lif(expected))
        assert torch.equal(counts, slow_lif(expected).flatten(1).sum(1).long())

        again = torch.zeros_like(fired)
        native_conv.dense_lif(
            channels_last(convolved),
            again,
            decay=DECAY,
            threshold=THRESHOLD,
            residual=channels_last(residual),
            **packed,
        )
        assert torch.equal(again, fired)


def test_a_constant_input_is_read_at_every_step():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 19, 5, 6)
    fired = native_conv.silent(4, 2, 5, 6, 19)
    counts = native_conv.dense_lif(channels_last(x), fired, decay=DECAY, threshold=THRESHOLD)
    expected = slow_lif(x.expand(4, -1, -1, -1, -1))
    assert torch.equal(unpack(fired, 19), expected)
    assert torch.equal(counts, expected.flatten(1).sum(1).long())
    counts = native_conv.count_channels(fired)
    assert torch.equal(counts[:, :19], expected.sum((0, 3, 4)).int())
    assert counts[:, 19:].sum() == 0
