"""AEDAT 2.0 (jAER) and AEDAT 3.1 (cAER): packets and records of 8 bytes an event.

Formats: https://docs.inivation.com/software/software-advanced-usage/file-formats/, and for the
addresses of AEDAT 2.0 the event extractors of jAER, whose rows count upwards. libcaer reads a
DVS128 alike.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .prophesee import Bytes, whole_words
from .stream import Decoded, RecordingError, unwrap, warn_damage

_LINES = re.compile(rb"(?:#[\t -~\x80-\xff]*\r?\n)+")
_END = re.compile(rb"#\s*!?END[- ](?:OF[- ]ASCII[- ])?HEADER[^\n]*\n", re.IGNORECASE)
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1
_SENSORS = {
    "davis128": (128, 128),
    "davis208": (208, 192),
    "davis240": (240, 180),
    "davis346": (346, 260),
    "davis640": (640, 480),
    "dvxplorer": (640, 480),
    "dvs128": (128, 128),
}


def split_header(raw: Bytes) -> tuple[str, Bytes]:
    """Split a file into its '#' lines, decoded, and the binary rest."""
    head = raw[: 1 << 20].tobytes()  # jAER writes its preferences, some 100 kB, into the header
    lines = _LINES.match(head)
    last = _END.search(head, 0, lines.end() if lines else 0)
    end = last.end() if last else lines.end() if lines else 0
    return head[:end].decode("latin-1"), raw[end:]


def _named_sensor(header: str) -> str | None:
    """Find the sensor that a header names, one of _SENSORS, or None."""
    sources = "\n".join(re.findall(r"#\W*(?:AEChip|HardwareInterface|Source).*", header)).lower()
    if match := re.search(r"davis\D?(\d{3})", sources):
        name = f"davis{match[1]}"
        return name if name in _SENSORS else None
    if "dvxplorer" in sources:
        return "dvxplorer"
    return "dvs128" if re.search(r"dvs_?128", sources) else None


def decode_aedat2(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode AEDAT 2.0 of a DVS128 or DAVIS: big-endian 32-bit address and µs.

    Columns are stored right to left and rows upwards, so both are turned over. The polarity bit of
    a DVS128 is 0 where it grew brighter, that of a DAVIS 1. Frames, IMU samples and special events
    are left out. Raises RecordingError for a DVXplorer, whose versions of jAER disagree about its
    addresses.
    """
    words = whole_words(body, ">u8", path).view(">u4").reshape(-1, 2).astype(np.uint32)
    address, t = words[:, 0], unwrap(words[:, 1], 32)
    sensor = _named_sensor(header)
    if sensor == "dvxplorer":
        raise RecordingError(
            f"{path} is AEDAT 2.0 of a DVXplorer, which is not read; save it as AEDAT 4.0"
        )
    if sensor == "dvs128" or (sensor is None and not bool((address >> 16).any())):
        keep = address >> 15 == 0  # bit 15 marks synchronisation pulses
        address, t = address[keep], t[keep]
        return Decoded(
            x=127 - (address >> 1 & 127).astype(np.int16),
            y=127 - (address >> 8 & 127).astype(np.int16),
            t=t,
            polarity=(address & 1) == 0,
            size=_SENSORS["dvs128"],
        )
    keep = (address >> 31 == 0) & (address >> 10 & 1 == 0)
    address, t = address[keep], t[keep]
    x, y = (address >> 12 & 0x3FF).astype(np.int16), (address >> 22 & 0x1FF).astype(np.int16)
    if sensor is None:
        fits = len(x) and int(x.max()) < 240 and int(y.max()) < 180
        sensor = "davis240" if fits else "davis346"
    size = _SENSORS[sensor]
    return Decoded(
        x=size[0] - 1 - x,
        y=size[1] - 1 - y,
        t=t,
        polarity=(address >> 11 & 1).astype(np.bool_),
        size=size,
    )


def _polarity_packets(body: Bytes, path: Path) -> tuple[list[Bytes], list[tuple[int, int]]]:
    """Collect the polarity packets of the first camera: their bytes, and (events, overflows)."""
    chunks: list[Bytes] = []
    counts: list[tuple[int, int]] = []
    position, source = 0, None
    while position < len(body):
        if len(body) - position < _PACKET.size:
            warn_damage(path, "ends in the middle of a packet")
            break
        kind, sender, size, _, overflows, _, number, _ = _PACKET.unpack_from(body.data, position)
        sound = size > 0 and number >= 0 and overflows >= 0 and (kind != _POLARITY or size == 8)
        if not sound:
            warn_damage(path, f"has no sound packet at byte {position} of its data, stopped there")
            break
        start = position + _PACKET.size
        position = start + size * number
        if position > len(body):
            warn_damage(path, "ends in the middle of a packet")
            number = (len(body) - start) // size
        if kind == _POLARITY and sender == (sender if source is None else source):
            source = sender
            chunks.append(body[start : start + 8 * number])
            counts.append((number, overflows))
    return chunks, counts


def decode_aedat3(header: str, body: Bytes, path: Path) -> Decoded:
    """Decode AEDAT 3.1, of its first camera: little-endian packets of a 28-byte header and
    8 bytes an event (15 bits x, 15 bits y, polarity, validity; 31 bits of µs).
    """
    if not re.search(r"#Format:\s*RAW", header):
        raise RecordingError(f"{path} is AEDAT 3.1 in a compressed format; only RAW is read")
    chunks, counts = _polarity_packets(body, path)
    words: NDArray[Any] = np.concatenate([body[:0], *chunks]).view("<u4").reshape(-1, 2)
    number, overflows = np.array(counts, np.int64).reshape(-1, 2).T
    sensor = _named_sensor(header)
    valid = np.flatnonzero(words[:, 0] & 1)
    t = (words[:, 1] & 0x7FFFFFFF).astype(np.int64)
    if overflows.any():
        t += np.repeat(overflows << 31, number)
    data = words[valid, 0]
    return Decoded(
        x=(data >> 17).astype(np.int16),
        y=(data >> 2 & 0x7FFF).astype(np.int16),
        t=t[valid],
        polarity=(data >> 1 & 1).astype(np.bool_),
        size=None if sensor is None else _SENSORS[sensor],
    )
