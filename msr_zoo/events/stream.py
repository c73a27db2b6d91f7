"""What every reader returns: the events of one recording, in time order, inside the sensor."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
Index = slice | NDArray[np.bool_] | IntArray

# Cameras send events of neighbouring columns some microseconds out of order; more is damage.
MAX_DISORDER_US = 10_000
LATEST_US = 2**60  # some 36,000 years
MAX_SENSOR_SIDE = 2**15 - 1  # AEDAT 3.1 has the widest addresses, 15 bits


class RecordingError(ValueError):
    """A file is no recording, or nothing of it can be read."""


class DamagedRecordingWarning(UserWarning):
    """A recording was cut short or holds impossible events; the sound ones were read."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events of one recording, as parallel arrays of length N.

    ``x`` and ``y`` are int16 pixels, ``t`` int64 microseconds that never decrease (their origin
    is the file's own), ``polarity`` is True where the pixel became brighter. ``width`` and
    ``height`` are the sensor's, in pixels. ``len`` counts events and ``events[index]``, with a
    slice, a mask or indices, selects some of them.
    """

    x: NDArray[np.int16]
    y: NDArray[np.int16]
    t: NDArray[np.int64]
    polarity: NDArray[np.bool_]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: Index) -> Events:
        return replace(
            self,
            x=self.x[index],
            y=self.y[index],
            t=self.t[index],
            polarity=self.polarity[index],
        )

    @property
    def duration(self) -> int:
        """Microseconds from the first event to the last; 0 without events."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0


@dataclass(frozen=True)
class Decoded:
    """What a format's decoder found: raw columns of any integer type, not yet checked.

    ``size`` is (width, height) in pixels, or None where the file does not say.
    """

    x: IntArray
    y: IntArray
    t: IntArray
    polarity: NDArray[np.bool_]
    size: tuple[int, int] | None = None


def warn_damage(path: Path, what: str) -> None:
    warnings.warn(f"{path}: {what}", DamagedRecordingWarning, stacklevel=2)


def unwrap(ticks: IntArray, bits: int) -> NDArray[np.int64]:
    """Continue a counter of that many bits past its overflows.

    A fall by more than half the range is an overflow, a rise by more than half takes one back:
    so a single corrupt stamp does not shift all that follow it.
    """
    t = ticks.astype(np.int64)
    if not len(t):
        return t
    step = np.diff(t)
    half = 1 << (bits - 1)
    jumps = np.flatnonzero(np.abs(step) > half)
    if len(jumps):
        turns = np.zeros(len(t), np.int64)
        turns[jumps + 1] = np.where(step[jumps] < 0, 1, -1)
        t += np.cumsum(turns) << bits
    return t


def _in_order(t: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the events to keep where time runs backwards by more than MAX_DISORDER_US.

    Either the events earlier than something before them are wrong, or those later than something
    after them: the smaller group goes. A corrupt stamp loses itself, a clock that was reset
    loses the shorter side.
    """
    late = t < np.maximum.accumulate(t) - MAX_DISORDER_US
    early = t > np.minimum.accumulate(t[::-1])[::-1] + MAX_DISORDER_US
    return ~late if late.sum() <= early.sum() else ~early


def checked(decoded: Decoded, path: Path) -> Events:
    """Turn what a decoder found into Events, leaving impossible ones out with a warning.

    Events outside the sensor or far out of time order are left out, small disorder is sorted.
    Where the file does not give the sensor's size, the extent of the events stands for it.
    Raises RecordingError where nothing, or less than half, is left.
    """
    x, y, t, polarity = (
        decoded.x,
        decoded.y,
        decoded.t.astype(np.int64, copy=False),
        decoded.polarity,
    )
    total = len(t)
    if not total:
        raise RecordingError(f"{path} holds no events")
    width, height = decoded.size or (MAX_SENSOR_SIDE, MAX_SENSOR_SIDE)
    if int(x.min()) < 0 or int(y.min()) < 0 or int(x.max()) >= width or int(y.max()) >= height:
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x, y, t, polarity = x[inside], y[inside], t[inside], polarity[inside]
        warn_damage(path, f"left out {total - len(t)} of {total} events, outside the sensor")
    if len(t) and (int(t.min()) < -LATEST_US or int(t.max()) > LATEST_US):
        possible = np.flatnonzero((t >= -LATEST_US) & (t <= LATEST_US))
        warn_damage(path, f"left out {len(t) - len(possible)} of {total} events, at no real time")
        x, y, t, polarity = x[possible], y[possible], t[possible], polarity[possible]
    if not bool(np.all(t[1:] >= t[:-1])):
        keep = _in_order(t)
        if not keep.all():
            x, y, t, polarity = x[keep], y[keep], t[keep], polarity[keep]
            warn_damage(path, f"left out {int((~keep).sum())} of {total} events, out of time order")
        order = np.argsort(t, kind="stable")
        x, y, t, polarity = x[order], y[order], t[order], polarity[order]
    if 2 * len(t) < total:
        raise RecordingError(f"{path} is damaged: only {len(t)} of its {total} events are possible")
    return Events(
        x=x.astype(np.int16, copy=False),
        y=y.astype(np.int16, copy=False),
        t=t,
        polarity=polarity.astype(np.bool_, copy=False),
        width=width if decoded.size else int(x.max()) + 1,
        height=height if decoded.size else int(y.max()) + 1,
    )
