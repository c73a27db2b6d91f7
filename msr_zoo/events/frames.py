"""From events to tensors: counts by step, polarity and pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from .stream import Events


def _places(sensor: int, side: int, scale: float) -> NDArray[np.int64]:
    """Map each sensor pixel of one axis to the model's, the picture centred."""
    offset = int(side - np.ceil(sensor * scale - 1e-9)) // 2  # a whole product may lie above
    places = ((np.arange(sensor) + 0.5) * scale).astype(np.int64) + offset
    return np.clip(places, 0, side - 1)


def to_frames(
    events: Events,
    *,
    steps: int,
    size: tuple[int, int],
    interval: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Count events into a float32 tensor (T, 2, H, W); channel 0 is darker, 1 brighter.

    ``interval`` (from, to), in µs, is cut into T equal steps, and events outside it are not
    counted; by default it spans the events. ``size`` is (H, W). A larger sensor is shrunk by
    summing, keeping its proportions, and centred; a smaller one is centred as it is.
    Raises ValueError where steps or a side is below 1, or the interval is empty.
    """
    height, width = size
    if min(steps, height, width) < 1:
        raise ValueError(f"steps and size must be at least 1, got {steps} and {size}")
    if interval is None:
        interval = (int(events.t[0]), int(events.t[-1]) + 1) if len(events) else (0, 1)
    begin, end = interval
    if begin >= end:
        raise ValueError(f"the interval must end after it begins, got {interval}")
    scale = min(height / events.height, width / events.width, 1.0)
    first, last = np.searchsorted(events.t, (begin, end))
    step = (events.t[first:last] - begin) * steps // (end - begin)
    index = step * 2 + events.polarity[first:last]
    index = index * height + _places(events.height, height, scale)[events.y[first:last]]
    index = index * width + _places(events.width, width, scale)[events.x[first:last]]
    counts = np.bincount(index, minlength=steps * 2 * height * width)
    return torch.from_numpy(counts.astype(np.float32)).reshape(steps, 2, height, width)


def around_median(events: Events, side: int) -> Events:
    """Cut out the square of ``side`` pixels about the median event, which comes to its middle."""
    if not len(events):
        return replace(events, width=side, height=side)
    x = events.x - (round(float(np.median(events.x))) - side // 2)
    y = events.y - (round(float(np.median(events.y))) - side // 2)
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    moved = replace(events, x=x.astype(np.int16), y=y.astype(np.int16), width=side, height=side)
    return moved if inside.all() else moved[inside]


def normalized(frames: torch.Tensor) -> torch.Tensor:
    """Scale counts (..., T, 2, H, W) to a mean of 1 over the cells that hold any.

    So a slow and a fast motion, or a sensitive and a dull camera, look alike. Samples without an
    event stay zero.
    """
    axes = (-4, -3, -2, -1)
    scale = frames.count_nonzero(dim=axes) / frames.sum(dim=axes).clamp(min=1.0)
    return frames * scale[..., None, None, None, None]


def without_hot_pixels(events: Events, *, factor: float = 10.0, min_rate: float = 10.0) -> Events:
    """Leave out pixels that fire on their own.

    A pixel is hot where it fires more often than ``min_rate`` Hz and more than ``factor`` times
    the mean of its eight neighbours, each counted once more than it fired.
    """
    height, width = events.height, events.width
    pixel = events.y.astype(np.int64) * width + events.x
    counts = np.bincount(pixel, minlength=height * width).reshape(height, width)
    padded = np.pad(counts + 1, 1, mode="reflect" if min(height, width) > 1 else "edge")
    around = sum(
        padded[row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
        if (row, column) != (1, 1)
    )
    busy = counts > min_rate * max(events.duration, 1) * 1e-6
    hot = busy & (counts > factor * around / 8)
    return events[~hot.ravel()[pixel]] if hot.any() else events
