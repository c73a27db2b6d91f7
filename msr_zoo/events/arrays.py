"""Events in NumPy's own files and in CSV."""

from __future__ import annotations

import io
import re
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from .columns import Column, from_named, from_structured, from_table, named
from .prophesee import Bytes, sensor_size
from .stream import Decoded, RecordingError, warn_damage

# What NumPy raises on a damaged header, which it parses as a Python literal.
_HEADER_ERRORS = (
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    ValueError,
)
MAX_UNPACKED = 1 << 30  # bytes of an .npz: 33 million events of four int64


def _load_npy(raw: bytes, path: Path) -> Column:
    """Load a .npy file, as many of its rows as are there; never with pickle."""
    file = io.BytesIO(raw)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd literals in a damaged header
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(file)
    except _HEADER_ERRORS as error:
        raise RecordingError(f"{path} has a damaged header") from error
    if dtype.hasobject or dtype.itemsize == 0 or not shape or min(shape) < 0:
        raise RecordingError(f"{path} holds {dtype} of shape {shape}, which cannot be events")
    body = raw[file.tell() :]
    row = dtype.itemsize * int(np.prod([int(side) for side in shape[1:]], dtype=object))
    rows = min(shape[0], len(body) // row) if row else 0
    if rows < shape[0]:
        if fortran and len(shape) > 1:
            raise RecordingError(f"{path} is cut, and stored column by column")
        warn_damage(path, f"is cut: {rows} of its {shape[0]} rows are there")
    array = np.frombuffer(body, dtype, rows * row // dtype.itemsize)
    return array.reshape((rows, *shape[1:]), order="F" if fortran else "C")


def decode_npy(raw: Bytes, path: Path) -> Decoded:
    """Decode .npy: an array with fields x, y, t, p (or their usual other names), or (N, 4)."""
    return from_structured(_load_npy(raw.tobytes(), path), path)


def decode_npz(raw: Bytes, path: Path) -> Decoded:
    """Decode .npz: arrays x, y, t, p, or one array as in .npy; ``width`` and ``height`` count."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw.tobytes())) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            told = [members.pop(side) for side in ("width", "height") if side in members]
            found = named(list(members))
            if set(found) == set("xytp"):  # whatever lies beside them
                members = {name: members[name] for name, _ in found.values()}
            elif len(members) != 1:
                raise RecordingError(
                    f"{path} holds the arrays {sorted(members)}; x, y, t and p are needed"
                )
            sizes = {file: archive.getinfo(file).file_size for file in (*told, *members.values())}
            if (total := sum(sizes.values())) > MAX_UNPACKED:
                raise RecordingError(
                    f"{path} unpacks to {total:,} bytes, and at most {MAX_UNPACKED:,} are read"
                )

            def unpacked(file: str) -> bytes:
                # Without its size, more than the archive tells of would be unpacked.
                return archive.open(file).read(sizes[file])

            sides = [
                int(np.load(io.BytesIO(unpacked(file)), allow_pickle=False).reshape(-1)[0])
                for file in told
            ]
            arrays = {name: _load_npy(unpacked(file), path) for name, file in members.items()}
    except RecordingError:
        raise
    except (
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        MemoryError,
        OverflowError,
        TypeError,
    ) as error:
        raise RecordingError(f"{path} is a damaged .npz file") from error
    size = (sides[0], sides[1]) if len(sides) == 2 else None
    if len(found) == 4:
        columns = {key: arrays[name] for key, (name, _) in found.items()}
        return from_named(columns, path, found["t"][1], size)
    return from_structured(next(iter(arrays.values())), path, size)


def _sound_rows(lines: list[str], delimiter: str | None, path: Path) -> Column:
    """Parse rows one by one, up to the first that does not parse."""
    rows: list[list[float]] = []
    for number, line in enumerate(lines):
        try:
            row = [float(part) for part in line.split(delimiter)]
        except ValueError:
            row = []
        if line.strip() and (not row or (rows and len(row) != len(rows[0]))):
            warn_damage(path, f"does not parse at row {number + 1} of its data, read up to there")
            break
        if row:
            rows.append(row)
    return np.array(rows or np.empty((0, 4)))


def decode_csv(raw: Bytes, path: Path) -> Decoded:
    """Decode text: a row an event, columns apart by comma, semicolon, tab or space.

    A line of names says which column is which, and the unit of time (``t_us``); without one
    they are told by their contents. Lines of '#' or '%' before it may give ``geometry: 640,480``.
    """
    text = raw.tobytes().decode("utf-8-sig", errors="replace")
    match = re.match(r"(?:[ \t]*(?:[#%][^\n]*)?\n)*", text)
    comments, text = (text[: match.end()], text[match.end() :]) if match else ("", text)
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in first), None)
    names: list[str] = []
    if re.search(r"[A-DF-Za-df-z]", re.sub(r"(?i)true|false|nan|inf", "", first)):
        names, text = first.split(delimiter), text.partition("\n")[2]
    elif last := re.findall(r"[#%]\s*(\w+(?:[,;\s]+\w+){3})\s*$", comments):
        names = re.split(r"[,;\s]+", last[-1])
    text = text.replace("True", "1").replace("False", "0")
    if not text.strip():
        raise RecordingError(f"{path} holds no events")
    try:
        table = np.loadtxt(io.StringIO(text), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        table = _sound_rows(text.split("\n"), delimiter, path)
    size = sensor_size(comments.replace(",", "x"))
    found = named(names)
    if set(found) != set("xytp"):
        return from_table(table, path, size)
    if len(names) != table.shape[1]:
        raise RecordingError(f"{path} names {len(names)} columns and has {table.shape[1]}")
    columns = {key: table[:, names.index(name)] for key, (name, _) in found.items()}
    return from_named(columns, path, found["t"][1], size)
