"""Cutting a recording into windows, each a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a recording becomes samples: by ``duration_us``, by ``count`` of events, or whole.

    ``stride`` is the step from one window to the next, in µs or events like the window itself;
    the window's own length where None. Windows with fewer than ``min_events`` are left out.
    Raises ValueError where both kinds are asked for, or a number is not positive.
    """

    duration_us: int | None = None
    count: int | None = None
    stride: int | None = None
    min_events: int = 1

    def __post_init__(self) -> None:
        if self.duration_us is not None and self.count is not None:
            raise ValueError("a window has a duration_us or a count, not both")
        for name in ("duration_us", "count", "stride", "min_events"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


def cut(t: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
    """Cut events at times t (µs, in order) into windows.

    Returns (K, 4): the first event and the one after the last, and the µs where the window begins
    and ends. What is left at the end is dropped, but a recording shorter than one window is one.
    """
    if not len(t):
        return np.empty((0, 4), np.int64)
    if window.duration_us is not None:
        edges = _by_duration(t, window.duration_us, window.stride or window.duration_us)
    elif window.count is not None:
        first = np.arange(0, max(len(t) - window.count, 0) + 1, window.stride or window.count)
        last = np.minimum(first + window.count, len(t))
        edges = np.stack([first, last, t[first], t[last - 1] + 1], axis=1)
    else:
        edges = np.array([[0, len(t), t[0], t[-1] + 1]], np.int64)
    return edges[edges[:, 1] - edges[:, 0] >= window.min_events]


def _by_duration(t: NDArray[np.int64], duration: int, stride: int) -> NDArray[np.int64]:
    start, length = int(t[0]), int(t[-1] - t[0]) + 1
    # Only windows that hold an event: a camera left on for a day has many that do not.
    steps = np.unique((t - start) // stride)
    overlap = -(-duration // stride)
    number = np.unique((steps[:, None] - np.arange(overlap)).ravel())
    number = number[(number >= 0) & (number <= max(length - duration, 0) // stride)]
    begin = start + number * stride
    first, last = np.searchsorted(t, begin), np.searchsorted(t, begin + duration)
    return np.stack([first, last, begin, begin + duration], axis=1)
