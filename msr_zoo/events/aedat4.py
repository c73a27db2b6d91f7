"""AEDAT 4.0 (iniVation DV): flatbuffers in packets compressed with LZ4 or Zstandard.

Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html.
Read here with the plain decompressors rather than with the package ``aedat``, whose native code
aborts the whole process on a corrupt packet (2.3.0).
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .prophesee import Bytes
from .stream import Decoded, RecordingError, warn_damage

MAGIC = b"#!AER-DAT4.0\r\n"
_EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "on"],
        "formats": ["<i8", "<i2", "<i2", "?"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
_MAX_PACKET = 1 << 28  # bytes; a packet holds some milliseconds, so more is a corrupt length


class _DamageError(Exception):
    """A packet or header that does not parse."""


def _number(buffer: bytes | memoryview, position: int, layout: str) -> int:
    if position < 0 or position + struct.calcsize(layout) > len(buffer):
        raise _DamageError
    return int(struct.unpack_from(layout, buffer, position)[0])


def _field(buffer: bytes, index: int) -> int | None:
    """Find where a field of a flatbuffer's root table is; None where it has its default."""
    table = _number(buffer, 0, "<I")
    vtable = table - _number(buffer, table, "<i")
    if 4 + 2 * index >= _number(buffer, vtable, "<H"):
        return None
    offset = _number(buffer, vtable + 4 + 2 * index, "<H")
    return table + offset if offset else None


def _vector(buffer: bytes, index: int, item: int) -> tuple[int, int]:
    """Return where a vector's items start, and how many there are."""
    field = _field(buffer, index)
    if field is None:
        return 0, 0
    vector = field + _number(buffer, field, "<I")
    count = _number(buffer, vector, "<I")
    if vector + 4 + count * item > len(buffer):
        raise _DamageError
    return vector + 4, count


def _event_stream(info: bytes, path: Path) -> tuple[int, tuple[int, int] | None]:
    """Find the first stream of events, and its sensor's (width, height)."""
    try:
        root = ElementTree.fromstring(info.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError):
        raise _DamageError from None
    for node in root.iter("node"):
        text = {attr.get("key"): attr.text or "" for attr in node.findall("attr")}
        name = node.get("name", "")
        if text.get("typeIdentifier") == "EVTS" and name.isdecimal():
            size = {attr.get("key"): attr.text or "" for attr in node.findall("node/attr")}
            width, height = size.get("sizeX", ""), size.get("sizeY", "")
            sides = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None
            return int(name), sides
    raise RecordingError(f"{path} has no stream of events")


def _decompressor(compression: int, path: Path) -> Callable[[bytes], bytes]:
    """Return what undoes a packet's compression; it raises _DamageError."""
    if compression == 0:
        return bytes
    try:
        if compression in (1, 2):
            import lz4.frame

            def lz4_frame(data: bytes) -> bytes:
                decompressor = lz4.frame.LZ4FrameDecompressor()
                try:
                    return bytes(decompressor.decompress(data, max_length=_MAX_PACKET))
                except (RuntimeError, EOFError, MemoryError, OverflowError):
                    raise _DamageError from None

            return lz4_frame
        if compression in (3, 4):
            import zstandard

            def zstd_frame(data: bytes) -> bytes:
                try:
                    if not 0 <= zstandard.frame_content_size(data) <= _MAX_PACKET:
                        raise _DamageError
                    return bytes(zstandard.ZstdDecompressor().decompress(data))
                except (zstandard.ZstdError, MemoryError):
                    raise _DamageError from None

            return zstd_frame
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs the package {error.name}: pip install 'msr-zoo[events]'"
        ) from None
    raise _DamageError


def decode_aedat4(raw: Bytes, path: Path) -> Decoded:
    """Decode AEDAT 4.0: the first stream of events; stamps are µs since 1970.

    Raises ImportError where the decompressor that the file needs is not installed.
    """
    data = raw.data
    size = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little")
    position = len(MAGIC) + 4
    header = bytes(data[position : position + size])
    position += size
    try:
        compression_at, table_at = _field(header, 0), _field(header, 1)
        compression = _number(header, compression_at, "<i") if compression_at else 0
        end = _number(header, table_at, "<q") if table_at else -1
        start, count = _vector(header, 2, 1)
        stream, sensor = _event_stream(header[start : start + count], path)
        decompress = _decompressor(compression, path)
    except _DamageError:
        raise RecordingError(f"{path} is an AEDAT 4.0 file with a damaged header") from None
    # An interrupted recording has no table of packets at its end, and -1 for its place.
    end = end if position <= end <= len(data) else len(data)
    packets = [raw[:0]]
    try:
        while position < end:
            packet_stream, size = (
                _number(data[position : position + 8], at, "<i") for at in (0, 4)
            )
            position += 8
            if size < 0 or position + size > len(data):
                raise _DamageError
            if packet_stream == stream:
                # Four bytes of length come before the flatbuffer.
                buffer = decompress(bytes(data[position : position + size]))[4:]
                start, count = _vector(buffer, 0, _EVENT.itemsize)
                packets.append(np.frombuffer(buffer, np.uint8, count * _EVENT.itemsize, start))
            position += size
    except _DamageError:
        warn_damage(path, f"is damaged at byte {position} of {len(data)}, read up to there")
    events = np.concatenate(packets).view(_EVENT)
    return Decoded(x=events["x"], y=events["y"], t=events["t"], polarity=events["on"], size=sensor)
