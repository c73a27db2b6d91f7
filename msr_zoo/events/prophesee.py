"""Prophesee recordings whose words stand alone: EVT2, EVT2.1 (.raw) and DAT.

Formats: https://docs.prophesee.ai/stable/data/encoding_formats/evt2.html (and evt21.html,
https://docs.prophesee.ai/stable/data/file_formats/dat.html). Stamps are µs. EVT words carry the
low 6 bits of the time, TIME_HIGH words between them the upper 28.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .stream import Decoded, IntArray, RecordingError, unwrap, warn_damage

TIME_HIGH = 8
BLOCK = 1 << 15  # words whose temporaries stay in a core's cache: twice as fast as all at once

# Lines of printable UTF-8: what else is there is events, whose bytes look otherwise.
_HEADER = re.compile(rb"(?:%(?! end)(?:[\t\r -~]|[\xc2-\xf4][\x80-\xbf]+)*\n)*(?:% end[\t\r ]*\n)?")
_SENSORS = {  # what headers without a geometry call the sensor, most telling first
    "genx320": (320, 320),
    "imx636": (1280, 720),
    "imx646": (1280, 720),
    "gen41": (1280, 720),
    "gen42": (1280, 720),
    "gen4": (1280, 720),
    "gen31": (640, 480),
    "gen3": (640, 480),
}
Bytes = NDArray[np.uint8]
Halves = NDArray[np.uint32]
Places = NDArray[np.intp]
S = TypeVar("S", bound=np.signedinteger[Any])


def split_header(raw: Bytes) -> tuple[str, Bytes]:
    """Split a file into its '%' lines, decoded, and the binary rest."""
    head = raw[:65536].tobytes()
    match = _HEADER.match(head)
    end = match.end() if match else 0
    return head[:end].decode("latin-1"), raw[end:]


def sensor_size(header: str) -> tuple[int, int] | None:
    """Find (width, height) in a header, or None."""
    text = header.lower()
    if match := re.search(r"geometry[ =:]+(\d+)\s*x\s*(\d+)", text):
        return int(match[1]), int(match[2])
    width = re.search(r"\bwidth[ =:]+(\d+)", text)
    height = re.search(r"\bheight[ =:]+(\d+)", text)
    if width and height:
        return int(width[1]), int(height[1])
    if match := re.search(r"generation[ _]+([34])\.?(\d?)", text):
        return (1280, 720) if match[1] == "4" else (640, 480)
    return next((size for name, size in _SENSORS.items() if name in text), None)


def whole_words(body: Bytes, dtype: str, path: Path) -> NDArray[Any]:
    """View bytes as words, warning about a last word that was cut."""
    size = np.dtype(dtype).itemsize
    if rest := len(body) % size:
        warn_damage(path, "ends in the middle of a word")
        body = body[: len(body) - rest]
    return body.view(dtype)


def _timed(words: IntArray, is_event: NDArray[np.bool_]) -> tuple[Places, NDArray[np.int64]]:
    """Find the events after the first TIME_HIGH, and for each the µs of the last one before it."""
    at = np.flatnonzero(words >> 28 == TIME_HIGH)
    high = unwrap(words[at] & 0x0FFFFFFF, 28) << 6
    start = int(at[0]) if len(at) else len(words)
    filled = np.repeat(high, np.diff(at, append=len(words)))
    events = np.flatnonzero(is_event[start:])
    return events + start, filled[events]


def decode_evt2(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode EVT 2.0: 32-bit words, 4 bits type, 6 bits time, 11 bits x, 11 bits y."""
    words = whole_words(body, "<u4", path)
    at, high = _timed(words, words >> 28 <= 1)
    events = words[at]
    return Decoded(
        x=((events >> 11) & 0x7FF).astype(np.int16),
        y=(events & 0x7FF).astype(np.int16),
        t=high + ((events >> 22) & 0x3F),
        polarity=(events >> 28).astype(np.bool_),
        size=sensor_size(header),
    )


def spread(values: NDArray[S], at: Places, emitted: NDArray[np.int32]) -> NDArray[S]:
    """Give each event what the last of the words ``at`` before it set.

    ``emitted`` counts the events of every word and those before; the words ``at`` have none, and
    nor has any before the first of them.
    """
    return np.repeat(values, np.diff(emitted[at], append=emitted[-1:]))


def _evt21_halves(header: str, body: Bytes, path: Path) -> tuple[Halves, Halves]:
    """Return the upper and lower 32 bits of every word.

    The IMX636 sends the upper half first, the GenX320 the lower, and not every header says which.
    The half that carries the time is the one whose TIME_HIGH words count upwards in small steps;
    in the other, masks that look like TIME_HIGH stay or jump.
    """
    halves = whole_words(body, "<u8", path).view("<u4").reshape(-1, 2)

    def ascents(upper: Halves) -> int:
        high = upper[(upper >> 28) == TIME_HIGH].astype(np.int64)
        step = np.diff(high)
        return int(((step > 0) & (step < 1 << 14)).sum()) - int((abs(step) >= 1 << 14).sum())

    legacy = "legacy" in header.lower()
    for part in (halves[: 2 * BLOCK], halves):  # the beginning is enough, unless it is silent
        first, second = ascents(part[:, 0]), ascents(part[:, 1])
        if legacy or first != second:
            break
    legacy = legacy or first > second
    return (halves[:, 0], halves[:, 1]) if legacy else (halves[:, 1], halves[:, 0])


def _bit_counts(masks: Halves) -> NDArray[np.uint32]:
    """Count the bits of each mask, adding neighbouring groups of 1, 2, 4, 8 and 16."""
    count = masks - ((masks >> 1) & 0x55555555)
    count = (count & 0x33333333) + ((count >> 2) & 0x33333333)
    count = (count + (count >> 4)) & 0x0F0F0F0F
    return (count * np.uint32(0x01010101)) >> 24


def _bit_numbers(masks: Halves, count: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Number the bits of masks that have ``count`` of them, at least one, the lowest first."""
    place = np.cumsum(count, dtype=np.intp) - count
    numbers = np.empty(int(place[-1] + count[-1]) if len(masks) else 0, np.int32)
    while len(masks):
        rest = masks & (masks - np.uint32(1))
        # The exponent of a power of two as float32: logarithms of integers are slow.
        numbers[place] = ((masks ^ rest).astype(np.float32).view(np.int32) >> 23) - 127
        more = np.flatnonzero(rest != 0)
        masks, place = rest[more], place[more] + 1
    return numbers


def _evt21_block(
    upper: Halves, valid: NDArray[np.uint32], high: int | None
) -> tuple[int | None, tuple[NDArray[Any], ...]]:
    """Decode words into x, y, t and polarity; takes and gives the last TIME_HIGH, unwrapped."""
    if high is not None:
        upper = np.append(np.uint32(TIME_HIGH << 28 | high & 0x0FFFFFFF), upper)
        valid = np.append(np.uint32(0), valid)
    kind = upper >> 28
    at = np.flatnonzero(kind == TIME_HIGH)
    is_event = (kind <= 1) & (valid != 0)
    is_event[: at[0] if len(at) else len(upper)] = False
    highs = unwrap(upper[at] & 0x0FFFFFFF, 28) + ((high or 0) & ~0x0FFFFFFF)
    event = np.flatnonzero(is_event)
    words, masks = upper[event], valid[event]
    count = _bit_counts(masks)
    emitted = np.zeros(len(upper), np.int32)
    emitted[event] = count
    t = spread(highs << 6, at, np.cumsum(emitted, out=emitted))
    bit = _bit_numbers(masks, count)
    if len(bit) > len(words):
        words = np.repeat(words, count)
    t += (words >> 22) & 0x3F
    x = (((words >> 11) & 0x7FF) + bit.astype(np.uint32)).astype(np.int16)
    y = (words & 0x7FF).astype(np.int16)
    return (int(highs[-1]) if len(at) else high), (x, y, t, words >> 28 == 1)


def decode_evt21(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode EVT 2.1: 64-bit words whose lower half marks up to 32 pixels to the right of x."""
    upper, valid = _evt21_halves(header, body, path)
    high, blocks = None, []
    for start in range(0, len(upper) or 1, BLOCK):
        part = slice(start, start + BLOCK)
        high, block = _evt21_block(upper[part], valid[part], high)
        blocks.append(block)
    x, y, t, polarity = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return Decoded(x, y, t, polarity, sensor_size(header))


def decode_dat(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode DAT, version 2: two bytes (event type, event size), then 32 bits of µs and
    32 bits of 14-bit x, 14-bit y and polarity for each event.
    """
    if len(body) < 2 or int(body[0]) not in (0x00, 0x0C) or int(body[1]) != 8:
        raise RecordingError(f"{path} is a DAT file, but not of 8-byte contrast events")
    version = re.search(r"version\s+(\d+)", header.lower())
    if version and int(version[1]) < 2:
        raise RecordingError(f"{path} is DAT of version {version[1]}; only version 2 is read")
    words = whole_words(body[2:], "<u8", path).view("<u4").reshape(-1, 2)
    address = words[:, 1]
    return Decoded(
        x=(address & 0x3FFF).astype(np.int16),
        y=((address >> 14) & 0x3FFF).astype(np.int16),
        t=unwrap(words[:, 0], 32),
        polarity=((address >> 28) & 1).astype(np.bool_),
        size=sensor_size(header),
    )
