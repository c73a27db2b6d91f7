"""Events as columns of numbers, named or not: what CSV, .npy, .npz and HDF5 files hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stream import MAX_SENSOR_SIDE, Decoded, RecordingError, warn_damage

Column = NDArray[Any]
_NAMES = {
    "x": {"x", "xs", "col", "column"},
    "y": {"y", "ys", "row"},
    "t": {"t", "ts", "time", "times", "timestamp", "timestamps"},
    "p": {"p", "ps", "pol", "polarity", "polarities", "on"},
}
_UNITS = {
    1e6: {"s", "sec", "secs", "second", "seconds"},
    1e3: {"ms", "msec", "millis", "millisecond", "milliseconds"},
    1.0: {"us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"},  # both letters mu
    1e-3: {"ns", "nsec", "nanos", "nanosecond", "nanoseconds"},
}
_US_PER = {name: us for us, names in _UNITS.items() for name in names}
_LAYOUTS = ("txyp", "xytp", "xypt", "ptxy")
_EARLIEST_NS = 1e17  # 1973 in ns since 1970; in µs it would be the year 5138


def named(names: list[str]) -> dict[str, tuple[str, float | None]]:
    """Match column names to x, y, t and p, e.g. ``timestamp_us`` to t with its µs a unit.

    Returns {"x": (name, None), …, "t": (name, µs a unit or None)}; parts may be missing.
    """
    found: dict[str, tuple[str, float | None]] = {}
    for name in names:
        word, _, unit = re.sub(r"[\s\[\]()]+", "_", name.strip().lower()).strip("_").partition("_")
        for key, aliases in _NAMES.items():
            if word in aliases and (not unit or key == "t") and key not in found:
                found[key] = (name, _US_PER.get(unit))
    return found


def _microseconds(t: Column, us_per_unit: float | None) -> NDArray[np.int64]:
    """Turn stamps into µs. Without a unit, fractions mean seconds and very large integers ns."""
    if us_per_unit is None:
        if t.dtype.kind == "f" and bool((t != np.floor(t)).any()):
            us_per_unit = 1e6
        else:
            us_per_unit = 1e-3 if float(t.max(initial=0)) > _EARLIEST_NS else 1.0
    if us_per_unit == 1.0:
        return t.astype(np.int64)
    return np.round(t * us_per_unit).astype(np.int64)


def from_named(
    columns: Mapping[str, Column],
    path: Path,
    us_per_unit: float | None = None,
    size: tuple[int, int] | None = None,
) -> Decoded:
    """Check columns x, y, t and p of equal length and turn them into events.

    Polarity is 0 or -1 for darker and 1 for brighter. Rows with anything else in it, without a
    finite time or with impossible pixels are left out with a warning.
    """
    x, y, t, p = (np.asarray(columns[key]).reshape(-1) for key in "xytp")
    length = min(len(column) for column in (x, y, t, p))
    if any(len(column) != length for column in (x, y, t, p)):
        warn_damage(path, f"has columns of different lengths, read the first {length} rows")
        x, y, t, p = x[:length], y[:length], t[:length], p[:length]
    if any(column.dtype.kind not in "biuf" for column in (x, y, t, p)):
        raise RecordingError(f"{path} holds columns that are not numbers")
    limit = 2.0**62 / (us_per_unit or 1e6)
    sound = (np.abs(t.astype(np.float64)) < limit) if t.dtype.kind == "f" else np.ones(length, bool)
    for side in (x, y):
        sound &= (side >= 0) & (side <= MAX_SENSOR_SIDE)
    sound &= (p == 0) | (p == 1) | (p == -1)
    if not sound.all():
        x, y, t, p = x[sound], y[sound], t[sound], p[sound]
        warn_damage(
            path, f"left out {length - len(t)} of {length} rows that hold no possible event"
        )
        if 2 * len(t) < length:
            raise RecordingError(f"{path} is damaged: only {len(t)} of {length} rows are events")
    t = _microseconds(t, us_per_unit)
    return Decoded(x.astype(np.int16), y.astype(np.int16), t, p == 1, size)


def from_table(table: Column, path: Path, size: tuple[int, int] | None = None) -> Decoded:
    """Read an (N, 4) or (4, N) table without names, telling the columns by what they hold.

    Of the orders in use (t x y p, x y t p, x y p t, p t x y) just one must fit: polarity is
    0/1 or -1/1, time almost never runs back, pixels are non-negative integers.
    """
    if table.ndim == 2 and table.shape[1] != 4 and table.shape[0] == 4:
        table = table.T
    if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "biuf":
        raise RecordingError(f"{path} holds an array of shape {table.shape}, not (N, 4) numbers")

    def fits(layout: str) -> bool:
        x, y, t, p = (table[:, layout.index(key)] for key in "xytp")
        pixels = all(np.mean((c >= 0) & (c == np.floor(c))) > 0.99 for c in (x, y))
        signs = bool(np.mean((p == 0) | (p == 1) | (p == -1)) > 0.99)
        return pixels and signs and bool(np.mean(t[1:] >= t[:-1]) > 0.95)

    layouts = [layout for layout in _LAYOUTS if len(table) > 1 and fits(layout)]
    if len(layouts) != 1:
        raise RecordingError(
            f"{path} does not tell which of its columns are x, y, t and polarity; name them"
        )
    columns = {key: table[:, layouts[0].index(key)] for key in "xytp"}
    return from_named(columns, path, size=size)


def from_structured(array: Column, path: Path, size: tuple[int, int] | None = None) -> Decoded:
    """Read an array with named fields, or else an unnamed table."""
    if array.dtype.names is None:
        return from_table(array, path, size)
    found = named(list(array.dtype.names))
    if set(found) != set("xytp"):
        raise RecordingError(f"{path} has the fields {array.dtype.names}; x, y, t and p are needed")
    columns = {key: array[name] for key, (name, _) in found.items()}
    return from_named(columns, path, found["t"][1], size)
