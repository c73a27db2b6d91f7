"""Reading a recording of any supported format, told by its content."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

import numpy as np

from . import aedat, aedat4, arrays, atis, evt3, hdf5, prophesee
from .prophesee import Bytes
from .stream import Decoded, Events, RecordingError, checked

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_TEXT = re.compile("[\t\n\r -~\xa0-\U0010ffff]+\\Z")
_KNOWN = (
    "AEDAT 2.0, 3.1 and 4.0, Prophesee EVT2, EVT2.1, EVT3 and DAT, N-MNIST .bin, HDF5, .npz, "
    ".npy and CSV are"
)


def _is_text(start: bytes) -> bool:
    """Whether the first bytes, which may end within a character, are printable UTF-8."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError:
        return False
    return _TEXT.match(text) is not None


def _evt_version(header: str) -> str | None:
    """Find the version of an EVT stream in the header: "2", "21", "3", or None for none."""
    match = re.search(r"(?:\bevt\s*|\bformat\s+evt)(\d)\.?(\d?)", header.lower())
    return match and (match[1] + match[2].replace("0", ""))


def _decode_percent(raw: Bytes, path: Path) -> Decoded | None:
    """Decode a file that begins with '%': EVT, DAT, or text with comments (None)."""
    header, body = prophesee.split_header(raw)
    version = _evt_version(header)
    decoders = {
        "2": prophesee.decode_evt2,
        "21": prophesee.decode_evt21,
        "3": evt3.decode_evt3,
    }
    if version in decoders:
        return decoders[version](header, body, path)
    if version is not None:
        raise RecordingError(f"{path} is in EVT {version}; EVT2, EVT2.1 and EVT3 are read")
    if len(body) and not _is_text(body[:4096].tobytes()):
        return prophesee.decode_dat(header, body, path)
    return None


def _decode_aedat(raw: Bytes, path: Path) -> Decoded:
    magic = raw[:16].tobytes()
    if magic.startswith(aedat4.MAGIC):
        return aedat4.decode_aedat4(raw, path)
    header, body = aedat.split_header(raw)
    if magic.startswith(b"#!AER-DAT2"):
        return aedat.decode_aedat2(header, body, path)
    if magic.startswith(b"#!AER-DAT3"):
        return aedat.decode_aedat3(header, body, path)
    version = re.match(rb"#!AER-DAT(\d+(?:\.\d+)?)", magic)
    which = version[1].decode() if version else "of no known version"
    raise RecordingError(f"{path} is in AEDAT {which}; AEDAT 2.0, 3.1 and 4.0 are read")


def _decode(raw: Bytes, path: Path) -> Decoded:
    start = raw[:4096].tobytes()
    if start.startswith(b"#!AER-DAT"):
        return _decode_aedat(raw, path)
    if start.startswith(b"\x93NUMPY"):
        return arrays.decode_npy(raw, path)
    if start.startswith(b"PK\x03\x04"):
        return arrays.decode_npz(raw, path)
    if any(start.startswith(_HDF5_MAGIC, at) for at in (0, 512, 1024, 2048)):
        return hdf5.decode_hdf5(path)
    if start.startswith(b"%") and (decoded := _decode_percent(raw, path)):
        return decoded
    if _is_text(start):
        return arrays.decode_csv(raw, path)
    if atis.looks_like_atis(raw):
        return atis.decode_atis(raw, path)
    raise RecordingError(f"{path} is not an event recording that is read here: {_KNOWN}")


def read_events(path: str | os.PathLike[str]) -> Events:
    """Read a recording: AEDAT 2.0 (DVS128, DAVIS), 3.1 and 4.0, Prophesee EVT2, EVT2.1, EVT3
    and DAT, the .bin of N-MNIST and N-Caltech101, HDF5, .npz, .npy or CSV.

    The format is told by the content, never by the name. Stamps become µs, with the file's own
    origin. A cut or damaged recording gives its sound events and a DamagedRecordingWarning.
    Raises RecordingError, a ValueError, for a file that holds none or is no recording,
    ImportError, naming the extra ``events``, where AEDAT 4.0 or HDF5 needs a package that is not
    installed, OSError where the file cannot be opened.
    """
    path = Path(path)
    raw = np.fromfile(path, np.uint8)
    if not len(raw):
        raise RecordingError(f"{path} is empty")
    return checked(_decode(raw, path), path)
