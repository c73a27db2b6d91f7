"""Prophesee EVT 3.0, a state machine in 16-bit words, decoded without a loop over words.

Format: https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html. A word updates the row,
the time or the base column, or emits events that take the rest from the last update before it;
forward filling turns "the last before it" into one np.repeat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .prophesee import BLOCK, Bytes, Places, S, sensor_size, spread, whole_words
from .stream import Decoded, IntArray, unwrap

ADDR_Y, ADDR_Y_OTHER, ADDR_X, VECT_BASE_X, VECT_12, VECT_8 = 0, 1, 2, 3, 4, 5
TIME_LOW, TIME_HIGH = 6, 8
_BITS = (np.arange(1 << 12)[:, None] >> np.arange(12)) & 1 == 1
_COUNT = _BITS.sum(axis=1).astype(np.int32)
_LENGTH = np.array([0, 0, 0, 0, 12, 8], np.int32)  # columns that a word of a kind moves the base on
# _NTH[mask, n] is the position of the n-th set bit
_NTH = np.argsort(~_BITS, axis=1, kind="stable").astype(np.int16)

Words = IntArray


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

    def _times(self, words: Words, kind: Words) -> tuple[Places, NDArray[np.int64]]:
        """Find the words from the first TIME_HIGH on that set the time, and the µs then.

        The low part restarts at 0 when the high part changes, until the next TIME_LOW.
        """
        at = np.flatnonzero((kind == TIME_HIGH) | (kind == TIME_LOW))
        is_high = kind[at] == TIME_HIGH
        high_at = np.flatnonzero(is_high)
        if not len(high_at):
            return at[:0], np.empty(0, np.int64)
        payload = (words[at] & 0xFFF).astype(np.int64)
        highs = unwrap(payload[high_at], 12) + ((self.high or 0) & ~0xFFF)
        changes = is_high.copy()
        changes[high_at[1:]] = highs[1:] != highs[:-1]
        low_at = np.flatnonzero(changes | ~is_high)
        high = _fill(highs, high_at, len(at))
        low = _fill(np.where(is_high[low_at], 0, payload[low_at]), low_at, len(at))
        self.high, self.low = int(high[-1]), max(int(low[-1]), 0)
        start = int(high_at[0])
        return at[start:], ((high << 12) + np.maximum(low, 0))[start:]

    def _rows(self, words: Words, kind: Words) -> tuple[Places, NDArray[np.int16]]:
        """Find the words that set the row, and the row then, -1 for none."""
        at = np.flatnonzero(kind <= ADDR_Y_OTHER)
        if len(at):
            self.row = int(words[at[-1]])
        # From 2048 up: a second camera's rows (bit 11), and rows of other event types.
        return at, np.where(words[at] < 1 << 11, words[at], -1).astype(np.int16)

    def _vector_columns(self, words: Words, kind: Words) -> tuple[Places, NDArray[np.int32]]:
        """Find the vector words, and for each the column of its first pixel, polarity in bit 24.

        A vector word moves the base column on by its own length, 12 or 8. -1 stands for no column.
        """
        at = np.flatnonzero(kind - VECT_BASE_X <= VECT_8 - VECT_BASE_X)  # others wrap around
        local = kind[at]
        length = _LENGTH[local]
        moved = np.cumsum(length, dtype=np.int32)
        is_base = local == VECT_BASE_X
        base_at = np.flatnonzero(is_base)
        base = words[at[base_at]].astype(np.int32)
        start = (base & 0x7FF) + ((base & 0x800) << 13) - moved[base_at]
        after = np.repeat(
            np.append(np.int32(0), start), np.diff(base_at, prepend=0, append=len(at))
        )
        after += moved
        after[: base_at[0] if len(base_at) else len(at)] = -1
        if len(base_at):
            column, sign = int(after[-1]) & 0xFFFFFF, int(after[-1]) >> 24
            word = VECT_BASE_X << 12 | sign << 11 | column
            self.base = word if column < 1 << 11 else None
        columns = (after - length)[~is_base]
        columns[(columns & 0xFFFFFF) >= 1 << 11] = -1  # no sensor is that wide
        return at[~is_base], columns

    def decode(self, block: Words) -> tuple[NDArray[Any], ...]:
        """Decode one block into x, y, t and polarity."""
        words = np.concatenate((np.array(self._prefix(), np.uint16), block))
        kind = words >> 12
        time_at, times = self._times(words, kind)
        row_at, rows = self._rows(words, kind)
        vector_at, columns = self._vector_columns(words, kind)
        valid = np.where(kind[vector_at] == VECT_12, 0xFFF, 0xFF)
        mask = np.where(columns < 0, 0, words[vector_at] & valid)
        count = (kind == ADDR_X).astype(np.int32)
        count[vector_at] = _COUNT[mask]
        if not len(time_at) or not len(row_at):
            count[:] = 0
        else:
            count[: max(time_at[0], row_at[0])] = 0
            if rows.min() < 0:
                count[_fill(rows, row_at, len(words)) < 0] = 0
        # Words that set something emit nothing: from one to the next, all events have what it set.
        emitted = np.cumsum(count, dtype=np.int32)
        at = np.flatnonzero(count != 0)
        at = np.repeat(at, count[at])
        word = words[at]
        x = (word & 0x7FF).astype(np.int16)
        polarity = word & 0x800 != 0
        n = count[vector_at].astype(np.intp)
        total = np.cumsum(n)
        nth = np.arange(int(n.sum())) - np.repeat(total - n, n)
        place = np.repeat(emitted[vector_at] - n, n) + nth
        column = np.repeat(columns, n)
        x[place] = (column & 0x7FF) + _NTH[np.repeat(mask, n), nth]
        polarity[place] = column >= 1 << 24
        return x, spread(rows, row_at, emitted), spread(times, time_at, emitted), polarity


def decode_evt3(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode EVT 3.0. Events before the first time, row or base column are left out."""
    words = whole_words(body, "<u2", path)
    decoder = _Decoder()
    blocks = [
        decoder.decode(words[start : start + BLOCK]) for start in range(0, len(words) or 1, BLOCK)
    ]
    x, y, t, polarity = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return Decoded(x, y, t, polarity, sensor_size(header))
