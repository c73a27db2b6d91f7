"""Prophesee EVT 3.0, a state machine in 16-bit words, decoded without a loop over words.

Format: https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html. A word updates the row,
the time or the base column, or emits events that take the rest from the last update before it;
forward filling turns "the last before it" into one np.repeat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .prophesee import Bytes, Places, sensor_size, whole_words
from .stream import Decoded, IntArray, unwrap

ADDR_Y, ADDR_Y_OTHER, ADDR_X, VECT_BASE_X, VECT_12, VECT_8 = 0, 1, 2, 3, 4, 5
TIME_LOW, TIME_HIGH = 6, 8
BLOCK = 1 << 15  # words whose temporaries stay in a core's cache: twice as fast as all at once

_BITS = (np.arange(1 << 12)[:, None] >> np.arange(12)) & 1 == 1
_COUNT = _BITS.sum(axis=1).astype(np.intp)
# _NTH[mask, n] is the position of the n-th set bit
_NTH = np.argsort(~_BITS, axis=1, kind="stable").astype(np.int16)

Words = IntArray
S = TypeVar("S", bound=np.signedinteger[Any])


def _fill(values: NDArray[S], at: Places, n: int) -> NDArray[S]:
    """Spread values given at some of n places to all after them; -1 before the first."""
    before = np.concatenate((np.array([-1], values.dtype), values))
    return np.repeat(before, np.diff(at, prepend=0, append=n))


class _Decoder:
    """The state between blocks: the time, and the last row and base column as words."""

    def __init__(self) -> None:
        self.high: int | None = None  # upper part of the time, its overflows counted
        self.low = 0
        self.row: int | None = None
        self.base: int | None = None

    def _prefix(self) -> list[int]:
        """Words that bring a fresh decoder to this state."""
        time: list[int | None] = [None]
        if self.high is not None:
            time = [TIME_HIGH << 12 | self.high & 0xFFF, TIME_LOW << 12 | self.low]
        return [word for word in (*time, self.row, self.base) if word is not None]

    def _times(self, words: Words, kind: Words) -> NDArray[np.int64]:
        """Time in µs of every word, any number before the first TIME_HIGH.

        The low part restarts at 0 when the high part changes, until the next TIME_LOW.
        """
        at = np.flatnonzero((kind == TIME_HIGH) | (kind == TIME_LOW))
        payload = (words[at] & 0xFFF).astype(np.int64)
        is_high = kind[at] == TIME_HIGH
        high_at = np.flatnonzero(is_high)
        highs = unwrap(payload[high_at], 12) + ((self.high or 0) & ~0xFFF)
        changes = is_high.copy()
        changes[high_at[1:]] = highs[1:] != highs[:-1]
        low_at = np.flatnonzero(changes | ~is_high)
        high = _fill(highs, high_at, len(at))
        low = _fill(np.where(is_high[low_at], 0, payload[low_at]), low_at, len(at))
        if len(highs):
            self.high, self.low = int(high[-1]), max(int(low[-1]), 0)
        return _fill((high << 12) + np.maximum(low, 0), at, len(words))

    def _rows(self, words: Words, kind: Words) -> NDArray[np.int16]:
        """Row of every word, -1 where there is none."""
        at = np.flatnonzero(kind <= ADDR_Y_OTHER)
        if len(at):
            self.row = int(words[at[-1]])
        # From 2048 up: a second camera's rows (bit 11), and rows of other event types.
        rows = np.where(words[at] < 1 << 11, words[at], -1).astype(np.int16)
        return _fill(rows, at, len(words))

    def _vector_columns(self, words: Words, kind: Words) -> tuple[Places, NDArray[np.int32]]:
        """Find the vector words, and for each the column of its first pixel, polarity in bit 15.

        A vector word moves the base column on by its own length, 12 or 8.
        """
        at = np.flatnonzero((kind >= VECT_BASE_X) & (kind <= VECT_8))
        local = kind[at]
        length = np.where(local == VECT_12, 12, np.where(local == VECT_8, 8, 0)).astype(np.int32)
        moved = np.cumsum(length, dtype=np.int32)
        base_at = np.flatnonzero(local == VECT_BASE_X)
        base = (words[at[base_at]] & 0xFFF).astype(np.int32)
        since = moved - _fill(moved[base_at], base_at, len(at))
        base = _fill((base & 0x7FF) | (base & 0x800) << 4, base_at, len(at))
        beyond = (base & 0x7FFF) + since - length >= 1 << 11  # no sensor is that wide
        column = np.where((base < 0) | beyond, -1, base + since - length)
        if len(base_at):
            after = int(base[-1] & 0x7FFF) + int(since[-1])
            word = VECT_BASE_X << 12 | int(base[-1] >> 15) << 11 | after
            self.base = word if after < 1 << 11 else None
        vector = local != VECT_BASE_X
        return at[vector], column[vector]

    def decode(self, block: Words) -> tuple[NDArray[Any], ...]:
        """Decode one block into x, y, t and polarity."""
        words = np.concatenate((np.array(self._prefix(), np.uint16), block))
        kind = words >> 12
        times, rows = self._times(words, kind), self._rows(words, kind)
        vector_at, columns = self._vector_columns(words, kind)
        column = (words & 0x7FF).astype(np.int32)
        column |= (words & 0x800).astype(np.int32) << 4
        column[vector_at] = columns
        mask = (words[vector_at] & np.where(kind[vector_at] == VECT_12, 0xFFF, 0xFF)).astype(
            np.intp
        )
        mask[(columns < 0) | (rows[vector_at] < 0)] = 0
        count = (kind == ADDR_X).astype(np.intp)
        if (rows < 0).any():
            count[rows < 0] = 0
        count[vector_at] = _COUNT[mask]
        timed = np.flatnonzero(kind == TIME_HIGH)
        before = int(timed[0]) if len(timed) else len(words)
        count[:before] = 0
        n = count[vector_at]
        first = np.cumsum(count)[vector_at] - n
        nth = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
        at = np.repeat(np.arange(len(words)), count)
        column = column[at]
        x = (column & 0x7FFF).astype(np.int16)
        x[np.repeat(first, n) + nth] += _NTH[np.repeat(mask, n), nth]
        return x, rows[at], times[at], column >= 1 << 15


def decode_evt3(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode EVT 3.0. Events before the first time, row or base column are left out."""
    words = whole_words(body, "<u2", path)
    decoder = _Decoder()
    blocks = [
        decoder.decode(words[start : start + BLOCK]) for start in range(0, len(words) or 1, BLOCK)
    ]
    x, y, t, polarity = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return Decoded(x, y, t, polarity, sensor_size(header))
