"""The .bin files of N-MNIST and N-Caltech101: 5 bytes an event, no header.

Format: Orchard, Jayawant, Cohen, Thakor, *Converting Static Image Datasets to Spiking
Neuromorphic Datasets Using Saccades*, Frontiers in Neuroscience 2015, and its event-Python.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .prophesee import Bytes
from .stream import Decoded, warn_damage

_SENSORS = ((34, 34), (240, 180), (304, 240))  # N-MNIST, N-Caltech101, the camera itself
_OVERFLOW_ROW = 240  # a row below the sensor: no event, the clock moved on by _OVERFLOW_US
_OVERFLOW_US = 1 << 13
_FEWEST, _ENOUGH = 16, 8192  # events to judge by


def looks_like_atis(raw: Bytes) -> bool:
    """Tell whether a file begins in this format: rows of the sensor, time almost never back."""
    if len(raw) < 5 * _FEWEST:
        return False
    events = raw[: min(len(raw) // 5, _ENOUGH) * 5].reshape(-1, 5)
    t = events[:, 2:].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]) & 0x7FFFFF
    orderly = np.mean(t[1:] >= t[:-1]) > 0.95
    moving = t.min() < t.max() and bool((events[:, :2] != events[0, :2]).any())
    return bool(orderly and moving and np.mean(events[:, 1] <= _OVERFLOW_ROW) > 0.95)


def decode_atis(raw: Bytes, path: Path) -> Decoded:
    """Decode x, y, then polarity (1 bit) and µs (23 bits, big-endian), a byte each or three.

    The sensor is the smallest of those that the format's data sets have, and that fits.
    """
    if len(raw) % 5:
        warn_damage(path, "ends in the middle of an event")
    events = raw[: len(raw) // 5 * 5].reshape(-1, 5)
    y = events[:, 1]
    t = events[:, 4].astype(np.int64)
    t |= events[:, 3].astype(np.int64) << 8
    t |= (events[:, 2] & 0x7F).astype(np.int64) << 16
    overflow = y == _OVERFLOW_ROW
    if overflow.any():
        t += np.cumsum(overflow) * _OVERFLOW_US
        events, t = events[~overflow], t[~overflow]
    x, y = events[:, 0].astype(np.int16), events[:, 1].astype(np.int16)
    # One event in a thousand outside is damage; more is a larger sensor.
    fits = ((np.mean((x < w) & (y < h)) >= 0.999, (w, h)) for w, h in _SENSORS[:-1])
    size = next((size for fit, size in fits if fit), _SENSORS[-1])
    return Decoded(x=x, y=y, t=t, polarity=events[:, 2] > 127, size=size)
