"""One layer close by: its spike maps, a raster of its neurons, its potentials."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msr_zoo.watch.marks import bit_picture, escape, frames, number
from msr_zoo.watch.trace import Trace

CHANNELS = 64  # shown at most
SIDE = 64  # pixels of a map shown at most; a larger map shows its middle
NEURONS = 96  # in the raster
BINS = 48


@dataclass(frozen=True, eq=False)
class Inside:
    """What a LIF layer did: spikes (T, C, H, W), and counts (T, BINS) of potentials in bins.

    `edges` (BINS + 1) are those of the bins; `over` (T,) is the share above the threshold.
    """

    layer: str
    spikes: Tensor
    threshold: float
    counts: Tensor
    edges: Tensor
    over: list[float]


def look(trace: Trace, layer: str) -> Inside:
    """Look inside a layer of a network; ValueError where it has none of that name."""
    if layer not in trace.rates:
        raise ValueError(f"{trace.source.name} has no layer {layer!r}")
    potentials, threshold = trace.potentials(layer), trace.neurons[layer][1]
    over = (potentials > threshold).flatten(1).double().mean(1).tolist()
    counts, edges = histogram(potentials, threshold)
    return Inside(layer, trace.spikes(layer), threshold, counts, edges, over)


def layer_view(inside: Inside, upto: int) -> str:
    """Everything about one layer up to a step, a frame a step."""
    layer, spikes = inside.layer, inside.spikes
    channels, height, width = spikes.shape[1:]
    return (
        f"<h4>{escape(layer)} <small>{channels} channels of {height} × {width}, "
        f"{number(channels * height * width)} neurons</small></h4>"
        f'<div class="mz-layer"><figure class="mz-wide">{_maps(spikes, layer, upto)}</figure>'
        f"<figure>{_raster(spikes, upto)}</figure>"
        f"<figure>{_histogram(inside, upto)}</figure></div>"
    )


def mosaic(spikes: Tensor) -> NDArray[np.bool_]:
    """Channels (C, H, W) side by side as one picture, in rows, with a pixel between them."""
    channels, height, width = spikes.shape
    columns = _columns(channels)
    rows = -(-channels // columns)
    picture = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.bool_)
    for index, channel in enumerate(spikes.numpy()):
        y, x = divmod(index, columns)
        y, x = y * (height + 1), x * (width + 1)
        picture[y : y + height, x : x + width] = channel
    return picture


def _columns(channels: int) -> int:
    return 2 ** math.ceil(math.log2(max(1, math.sqrt(2 * channels))))


def _middle(spikes: Tensor) -> Tensor:
    """The middle of maps (T, C, H, W) that are too large to show, and the first channels."""
    top, left = (max(0, (size - SIDE) // 2) for size in spikes.shape[2:])
    return spikes[:, :CHANNELS, top : top + SIDE, left : left + SIDE]


def _maps(spikes: Tensor, layer: str, upto: int) -> str:
    seen = _middle(spikes)
    channels, height, width = seen.shape[1:]
    columns = _columns(channels)
    across, down = columns * (width + 1) - 1, -(-channels // columns) * (height + 1) - 1
    tiles = "".join(
        f'<rect x="{index % columns * (width + 1)}" y="{index // columns * (height + 1)}" '
        f'width="{width}" height="{height}"/>'
        for index in range(channels)
    )

    def draw(step: int) -> str:
        rates = spikes[step - 1].flatten(1).double().mean(1)
        busiest = int(rates.argmax())
        told = (
            f"Spike maps of {layer} at step {step}: {number(int(spikes[step - 1].sum()))} spikes; "
            f"channel {busiest} fires most, {float(rates[busiest]):.0%} of its neurons"
        )
        return (
            f'<image width="{across}" height="{down}" href="{bit_picture(mosaic(seen[step - 1]))}">'
            f"<title>{escape(told)}</title></image>"
        )

    left_out = []
    if channels < spikes.shape[1]:
        left_out.append(f"the first {channels} of {spikes.shape[1]} channels")
    if (height, width) != tuple(spikes.shape[2:]):
        left_out.append(f"the middle {height} × {width} of each")
    note = f" Shown: {', '.join(left_out)}." if left_out else ""
    return (
        f'<svg class="mz-maps" viewBox="-0.5 -0.5 {across + 1} {down + 1}" role="img" '
        f'aria-label="Spike maps of {escape(layer)}, a tile a channel">{tiles}'
        f"{frames(draw, upto, last=upto)}</svg>"
        f"<figcaption>Spike maps: a tile a channel, a lit pixel a spike at this step.{note}"
        "</figcaption>"
    )


def raster_sample(spikes: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices (N,) of neurons that fire, evenly spaced, and their spikes (T, N).

    The silent majority would leave the raster empty; where too few ever fire, others fill it up.
    """
    flat = spikes.flatten(1)
    active = flat.any(0)
    order = torch.cat([active.nonzero()[:, 0], (~active).nonzero()[:, 0]])
    pool = order[: max(int(active.sum()), min(NEURONS, len(order)))]
    picks = torch.linspace(0, len(pool) - 1, min(NEURONS, len(pool))).round().long()
    indices = pool[picks].sort().values
    return indices, flat[:, indices]


def _raster(spikes: Tensor, upto: int) -> str:
    _, sample = raster_sample(spikes)
    steps, count = sample.shape
    width, height, left = 380, 200, 34
    pitch, row = (width - left - 6) / steps, (height - 26) / count

    def column(step: int) -> str:
        x = left + (step - 1) * pitch + 2
        ticks = "".join(
            f"M{x:.1f} {6 + n * row:.1f}h{pitch - 4:.1f}"
            for n in sample[step - 1].nonzero()[:, 0].tolist()
        )
        return f'<path class="mz-tickmark" stroke-width="{max(0.8, row - 0.5):.2f}" d="{ticks}"/>'

    columns = "".join(column(step) for step in range(1, upto + 1))
    now = frames(
        lambda step: (
            f'<rect class="mz-nowband" x="{left + (step - 1) * pitch:.1f}" y="2" '
            f'width="{pitch:.1f}" height="{height - 20}"/>'
        ),
        upto,
        last=upto,
    )
    labels = "".join(
        f'<text class="mz-tick" x="{left + (step - 0.5) * pitch:.1f}" y="{height - 4}" '
        f'text-anchor="middle">{step}</text>'
        for step in range(1, steps + 1)
    )
    counts = ", ".join(str(int(n)) for n in sample[:upto].sum(1))
    share = float(spikes.flatten(1).any(0).double().mean())
    return (
        f'<svg class="mz-chart" viewBox="0 0 {width} {height}" role="img" aria-label="Raster of '
        f'{count} neurons: {counts} of them fire at steps 1 to {upto}">{now}{columns}{labels}'
        f'<text class="mz-tick" transform="translate(10 {height / 2}) rotate(-90)" '
        f'text-anchor="middle">{count} neurons</text>'
        f'<text class="mz-tick" x="{left - 6}" y="{height - 4}" text-anchor="end">step</text></svg>'
        f"<figcaption>Raster: a row a neuron, of those that fire at all ({share:.0%} of the layer)."
        "</figcaption>"
    )


def histogram(potentials: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Counts of potentials (T, C, H, W) in BINS bins for each step (T, BINS), and edges.

    The bins span the potentials between the 0.1 and 99.9 % quantiles, moved so that the threshold
    lies on an edge; what lies beyond is counted in the first and the last.
    """
    flat = potentials.flatten(1).float()
    sample = flat.flatten()[:: max(1, flat.numel() // 1_000_000)]
    low, high = torch.quantile(sample, torch.tensor([0.001, 0.999])).tolist()
    width = max(high - low, 1e-3) / BINS
    low = threshold - math.ceil((threshold - low) / width) * width
    edges = low + width * torch.arange(BINS + 1)
    # A neuron fires above the threshold, not at it: bins hold their upper edge.
    bins = ((flat - low) / width).ceil().sub(1).clamp(0, BINS - 1).long()
    counts = torch.stack([torch.bincount(row, minlength=BINS) for row in bins])
    return counts, edges


def _histogram(inside: Inside, upto: int) -> str:
    counts, edges, threshold = inside.counts, inside.edges, inside.threshold
    places = edges.tolist()
    low, high = places[0], places[-1]
    low, high = min(low, 0.0), max(high, 1.15 * threshold)
    width, height, left, bottom = 380, 200, 8, 24
    top = float(counts.max())

    def x(value: float) -> float:
        return left + (width - 2 * left) * (value - low) / (high - low)

    def draw(step: int) -> str:
        bars = "".join(
            f'<rect class="{"above" if places[i] > threshold - 1e-6 else "below"}" '
            f'x="{x(places[i]):.1f}" width="{x(places[i + 1]) - x(places[i]):.1f}" '
            f'y="{height - bottom - h:.1f}" height="{h:.1f}"/>'
            for i, n in enumerate(counts[step - 1].tolist())
            if (h := (height - bottom - 18) * math.sqrt(n / top))
        )
        over = inside.over[step - 1]
        return (
            f"<title>Potentials at step {step}: {over:.1%} above the threshold</title>{bars}"
            f'<text class="mz-name c0" x="{left}" y="26">{over:.1%} of neurons fire</text>'
        )

    marks = sorted({low, threshold, high} | ({0.0} if x(threshold) - x(0) > 24 else set()))
    ticks = "".join(
        f'<text class="mz-tick" x="{x(value):.1f}" y="{height - 8}" text-anchor='
        f'"{"start" if value == low else "end" if value == high else "middle"}">{value:.2g}</text>'
        for value in marks
        if value in (low, high) or min(value - low, high - value) > 0.12 * (high - low)
    )
    return (
        f'<svg class="mz-chart mz-histogram" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Histogram of potentials against the threshold {threshold:g}">'
        f"{frames(draw, upto, last=upto)}"
        f'<line class="mz-threshold" x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" y1="4" '
        f'y2="{height - bottom}"/><text class="mz-tick mz-thr" x="{left}" y="12">'
        f"threshold {threshold:g} (dashed)</text>"
        f'<line class="mz-grid" x1="{left}" x2="{width - left}" y1="{height - bottom}" '
        f'y2="{height - bottom}"/>{ticks}</svg>'
        "<figcaption>Potentials before the reset; a neuron above the threshold fires. Height: "
        "square root of the count.</figcaption>"
    )
