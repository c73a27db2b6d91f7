"""The convolutions of spikes against torch's, on weights whose sums are exact in float32."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_zoo.kernels import native_conv, packing

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


def packed_as(layout: str, weight: Tensor) -> tuple[packing.Packed, Tensor]:
    """Weights (multiples of 1/16, at most 1/2) in a layout, and the worth of a unit (O,)."""
    sixteenth = torch.full(weight.shape[:1], 1 / 16)
    if layout == "rows":
        return packing.pack_weight(weight), torch.ones_like(sixteenth)
    if layout == "tiles of three digits":
        digits, unit = packing.fixed_point(weight)
        return packing.pack_tiles(digits), unit
    if layout == "tables":
        return packing.pack_tables(weight), torch.ones_like(sixteenth)
    units = (weight * 16).to(torch.int8)
    if layout == "tables of bytes":
        return packing.pack_tables(units), sixteenth
    pack_as = packing.pack_weight if layout == "rows of bytes" else packing.pack_tiles
    return pack_as(units), sixteenth


LAYOUTS = ["rows", "rows of bytes", "tiles", "tiles of three digits"]
NARROW_LAYOUTS = ["tables", "tables of bytes"]
CASES = [((1, 1), 2, 0.6), ((1, 7), 5, 0.2), ((5, 1), 1, 0.2), ((7, 9), 5, 0.2), ((2, 3), 3, 1.0)]
NARROW = [(1, 1), (16, 9), (5, 16)]
CHANNELS = [(1, 1), (3, 32), (17, 33), (64, 64), (65, 130), (128, 7)]
ALL = [*itertools.product(LAYOUTS, CHANNELS), *itertools.product(NARROW_LAYOUTS, NARROW)]


@pytest.mark.parametrize(("layout", "channels"), ALL)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_equals_torch(channels, kernel, stride, layout):
    channels_in, channels_out = channels
    torch.manual_seed(channels_in * channels_out + kernel + stride)
    norms = {}
    for name in ("norm", "residual_norm"):
        scale, shift = (torch.randint(-4, 5, (channels_out,)) / 4 for _ in range(2))
        norms[name] = (scale, shift)
    weight = torch.randint(-8, 9, (channels_out, channels_in, kernel, kernel)) / 16
    packed_weight, unit = packed_as(layout, weight)
    packed = {
        name: native_conv.Norm(
            scale=native_conv.pad_lanes(scale), shift=native_conv.pad_lanes(shift)
        )
        for name, (scale, shift) in norms.items()
    }
    in_units = replace(packed["norm"], scale=packed["norm"].scale * native_conv.pad_lanes(unit))
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
            packed_weight,
            fired,
            lanes_in=native_conv.lanes_of(channels_in),
            stride=stride,
            decay=DECAY,
            threshold=THRESHOLD,
            residual=kept,
            potential=kept,
            norm=in_units,
            residual_norm=packed["residual_norm"],
        )
        assert torch.equal(kept, channels_last(expected))
        assert torch.equal(fired, pack(slow_lif(expected)))
        assert torch.equal(counts, slow_lif(expected).flatten(1).sum(1).long())

        again, sparse = torch.zeros_like(fired), channels_last(expected)[:, :, ::2, ::2]
        every_second = torch.full(sparse.shape, torch.nan)
        native_conv.dense_lif(
            channels_last(convolved),
            again,
            decay=DECAY,
            threshold=THRESHOLD,
            residual=channels_last(residual),
            potential=every_second,
            potential_stride=2,
            **packed,
        )
        assert torch.equal(again, fired)
        assert torch.equal(every_second, sparse)


def test_a_constant_input_is_read_at_every_step():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 19, 5, 6)
    fired = native_conv.silent(4, 2, 5, 6, 19)
    norm = native_conv.Norm(scale=torch.full((32,), 0.5), shift=torch.full((32,), 0.25))
    once = torch.empty(1, 2, 3, 3, 32)
    native_conv.dense_lif(
        channels_last(x),
        fired,
        norm=norm,
        decay=DECAY,
        threshold=THRESHOLD,
        potential=once,
        potential_stride=2,
    )
    assert torch.equal(once[..., :19], channels_last(x * 0.5 + 0.25)[:, :, ::2, ::2, :19])
    assert torch.equal(unpack(fired, 19), slow_lif((x * 0.5 + 0.25).expand(4, -1, -1, -1, -1)))
    counts = native_conv.dense_lif(channels_last(x), fired, decay=DECAY, threshold=THRESHOLD)
    expected = slow_lif(x.expand(4, -1, -1, -1, -1))
    assert torch.equal(unpack(fired, 19), expected)
    assert torch.equal(counts, expected.flatten(1).sum(1).long())
    counts = native_conv.count_channels(fired)
    assert torch.equal(counts[:, :19], expected.sum((0, 3, 4)).int())
    assert counts[:, 19:].sum() == 0


def sums_of(packed: packing.Packed, unit: Tensor, spikes: Tensor) -> Tensor:
    """The 3 x 3 convolution of (T, B, C, H, W), in the units' worth."""
    channels = len(unit)
    fired = native_conv.silent(*spikes.shape[:2], *spikes.shape[3:], channels)
    sums = torch.empty(*spikes.shape[:2], *spikes.shape[3:], packed.lanes_out)
    norm = native_conv.Norm(scale=native_conv.pad_lanes(unit), shift=torch.zeros(packed.lanes_out))
    native_conv.conv_lif(
        pack(spikes),
        packed,
        fired,
        lanes_in=native_conv.lanes_of(spikes.shape[2]),
        stride=1,
        norm=norm,
        decay=DECAY,
        threshold=THRESHOLD,
        potential=sums,
    )
    return sums[..., :channels].movedim(-1, 2)


@pytest.mark.parametrize("channels_in", [16, 300])
@pytest.mark.parametrize("channels_out", [16, 32, 70])
def test_sums_of_the_largest_bytes_are_exact(channels_in, channels_out):
    torch.manual_seed(0)
    for low, high in ((-127, 128), (127, 128), (-127, -126)):
        units = torch.randint(low, high, (channels_out, channels_in, 3, 3), dtype=torch.int8)
        spikes = torch.ones(2, 1, channels_in, 4, 3)
        expected = F.conv2d(spikes[:, 0].long(), units.long(), None, 1, 1)  # integers in torch
        ways = [packing.pack_weight, packing.pack_tiles]
        ways += [packing.pack_tables] if max(channels_in, channels_out) <= 16 else []
        for pack_as in ways:
            got = sums_of(pack_as(units), torch.ones(channels_out), spikes)
            assert torch.equal(got[:, 0].long(), expected)


def test_bytes_keep_the_sum_of_a_channels_weights_and_hardly_move():
    torch.manual_seed(0)
    weight = torch.randn(40, 24, 3, 3) * torch.logspace(-6, 4, 40)[:, None, None, None]
    weight[7], weight[8] = 0, weight[8].abs()
    units, unit = packing.quantise(weight)
    exact = weight / unit[:, None, None, None]
    assert ((units - exact).sum((1, 2, 3)).abs() <= 0.51).all()
    moved = (units - exact).abs()
    assert moved.max() < 1
    assert (moved > 0.501).float().mean() < 0.1
    assert units.amax() == 127
    assert (units[7] == 0).all()


def test_three_digits_are_closer_to_float64_than_float32_additions():
    torch.manual_seed(0)
    weight = torch.randn(64, 64, 3, 3) * torch.logspace(-6, 4, 64)[:, None, None, None]
    weight[3] = 0
    spikes = (torch.rand(3, 1, 64, 9, 9) < 0.3).float()
    exact = F.conv2d(spikes[:, 0].double(), weight.double(), None, 1, 1)
    digits, unit = packing.fixed_point(weight)
    sums = sums_of(packing.pack_tiles(digits), unit, spikes)[:, 0]
    additions = sums_of(packing.pack_weight(weight), torch.ones(64), spikes)[:, 0]
    assert (sums[:, 3] == 0).all()
    others = torch.arange(64) != 3
    error, usual = (
        ((x - exact).square().mean((0, 2, 3)).sqrt() / weight.abs().amax((1, 2, 3)))[others].mean()
        for x in (sums, additions)
    )
    assert 0 < error < 0.8 * usual


def test_tables_are_as_close_to_float64_as_additions_in_a_row():
    torch.manual_seed(0)
    weight = torch.randn(16, 16, 3, 3)
    spikes = (torch.rand(3, 1, 16, 9, 9) < 0.4).float()
    exact = F.conv2d(spikes[:, 0].double(), weight.double(), None, 1, 1)
    error, usual = (
        (sums_of(pack_as(weight), torch.ones(16), spikes)[:, 0] - exact).square().mean().sqrt()
        for pack_as in (packing.pack_tables, packing.pack_weight)
    )
    assert 0 < error < usual


@pytest.mark.parametrize(("outputs", "inputs"), [(17, 16), (16, 17)])
def test_tables_of_wider_layers_are_refused(outputs, inputs):
    with pytest.raises(ValueError, match="16 lanes in and out"):
        packing.pack_tables(torch.zeros(outputs, inputs, 3, 3))


def test_digits_reach_the_largest_and_the_smallest_weights():
    largest = torch.tensor([1.0, -1.0, 2.0**-126, 0.996, 0.997, 3e38, 0.0]).view(-1, 1, 1, 1)
    digits, unit = packing.fixed_point(largest)
    assert digits.abs().max() <= 127 * (1 + 256 + 65536)
    worth = digits.double() * unit.double().view(-1, 1, 1, 1)
    assert ((worth - largest.double()).abs() <= largest.double().abs() * 2.0**-23).all()
    assert digits.flatten()[-1] == 0


@pytest.mark.parametrize("outputs", [1, 16, 20, 64, 70, 192])
def test_weights_packed_in_parts_are_those_packed_at_once(outputs):
    torch.manual_seed(0)
    weight = torch.randn(outputs, 24, 3, 3)
    packed, unit = packing.pack_fixed_point(weight)
    for pack_as in (packing.pack_weight, packing.pack_tiles):
        values = packing.quantise(weight)[0]
        parts = packing.in_parts(weight, lambda part: pack_as(packing.quantise(part)[0]))  # noqa: B023
        assert torch.equal(parts.data, pack_as(values).data)
    rows = packing.in_parts(weight, packing.pack_weight)
    assert torch.equal(rows.data, packing.pack_weight(weight).data)
    digits, unit_at_once = packing.fixed_point(weight)
    at_once = packing.pack_tiles(digits)
    assert torch.equal(packed.data, at_once.data)
    assert torch.equal(unit, unit_at_once)
    assert (packed.layout, packed.lanes_out, packed.kernel) == (
        at_once.layout,
        at_once.lanes_out,
        at_once.kernel,
    )
