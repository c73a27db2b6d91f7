"""Events in HDF5 files, in the layouts that data sets use."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from .columns import from_named, from_structured, named
from .stream import Decoded, RecordingError

ECF = 36559  # the registered number of Prophesee's own compression of events
# What h5py raises on damaged files; a plain OSError for most.
_H5PY_ERRORS = (
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
_TABLES = ("events", "event", "cd")


def _import_h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"reading {path} needs the package h5py: pip install 'msr-zoo[events]'"
        ) from None
    return h5py


def _find(group: Any, h5py: Any) -> Any:
    """Find the events, breadth first: a group of four columns, a record or an (N, 4) array."""
    children = [group[key] for key in group if group.get(key) is not None]
    columns = [
        child.name.rpartition("/")[2] for child in children if isinstance(child, h5py.Dataset)
    ]
    if set(named(columns)) == set("xytp"):
        return group
    for child in children:
        if isinstance(child, h5py.Dataset):
            fields = child.dtype.names
            if fields and set(named(list(fields))) == set("xytp"):
                return child
            word = child.name.rpartition("/")[2].lower()
            if word in _TABLES and len(child.shape) == 2 and 4 in child.shape:
                return child
    groups = (child for child in children if isinstance(child, h5py.Group))
    return next((found for child in groups if (found := _find(child, h5py)) is not None), None)


def _decode(file: Any, h5py: Any, path: Path) -> Decoded:
    found = _find(file, h5py)
    if found is None:
        raise RecordingError(f"{path} is HDF5 without events: no x, y, t and p in one place")
    datasets = [found] if isinstance(found, h5py.Dataset) else list(found.values())
    for dataset in datasets:
        filters = getattr(dataset, "_filters", {})
        if str(ECF) in filters:
            raise RecordingError(
                f"{path} is compressed with Prophesee's ECF, which only its own software reads; "
                "convert it to .raw or .dat there"
            )
    attributes = {**file.attrs, **found.attrs}
    size = None
    if {"width", "height"} <= set(attributes):
        size = (int(attributes["width"]), int(attributes["height"]))
    if isinstance(found, h5py.Dataset):
        return from_structured(found[()], path, size)
    names = named(list(found))
    columns = {key: np.asarray(found[name][()]) for key, (name, _) in names.items()}
    if "t_offset" in file:  # DSEC keeps the start of the recording apart
        columns["t"] = columns["t"].astype(np.int64) + int(file["t_offset"][()])
    return from_named(columns, path, names["t"][1], size)


def decode_hdf5(path: Path) -> Decoded:
    """Decode HDF5: columns x, y, t, p in one group, a compound data set, or (N, 4) ``events``.

    Sizes come from attributes ``width`` and ``height``. Raises ImportError without h5py;
    compressions beyond HDF5's own (Blosc, Zstandard) need the package hdf5plugin as well.
    """
    h5py = _import_h5py(path)
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  importing it registers its decompressors
    try:
        with h5py.File(path, "r") as file:
            return _decode(file, h5py, path)
    except RecordingError:
        raise
    except _H5PY_ERRORS as error:
        hint = " (try: pip install hdf5plugin)" if "filter" in str(error) else ""
        raise RecordingError(f"{path} is a damaged HDF5 file{hint}") from error
