"""Recordings as memory-mapped arrays, made once for a set of files with the same contents."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .stream import DamagedRecordingWarning, Events

_VERSION = 2  # to be raised whenever reading gives other events for the same bytes


@dataclass(frozen=True, eq=False)
class Recordings:
    """Several recordings end to end: recording i is events offsets[i] to offsets[i + 1].

    ``sizes`` (R, 2) holds the width and height of each one's sensor.
    """

    x: NDArray[np.int16]
    y: NDArray[np.int16]
    t: NDArray[np.int64]
    polarity: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Events:
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        width, height = (int(side) for side in self.sizes[index])
        return Events(self.x[part], self.y[part], self.t[part], self.polarity[part], width, height)


_NAMES = [field.name for field in fields(Recordings)]


def joined(recordings: Iterable[Events]) -> Recordings:
    """Put recordings end to end, in memory."""
    parts = list(recordings)
    return Recordings(
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        t=np.concatenate([part.t for part in parts]),
        polarity=np.concatenate([part.polarity for part in parts]),
        offsets=np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64),
        sizes=np.array([(part.width, part.height) for part in parts], np.int64),
    )


def digest(paths: Sequence[Path], settings: object) -> str:
    """Digest the contents of files, in order, and the settings they are read with."""
    total = hashlib.sha256(json.dumps([_VERSION, settings]).encode())
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def cached(folder: Path, key: str, make: Callable[[], Recordings]) -> Recordings:
    """Map the recordings stored under a key, storing what ``make`` returns where there are none.

    An entry is written under a temporary name and then renamed: it is whole or absent, also
    where several processes make it at once. What was damaged is told each time.
    """
    entry = folder / key
    if not entry.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DamagedRecordingWarning)
            recordings = make()
        damage = [str(w.message) for w in caught if w.category is DamagedRecordingWarning]
        for other in (w for w in caught if w.category is not DamagedRecordingWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        around = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
        # One level down, because a temporary folder itself is closed to all but its owner.
        draft = around / key
        try:
            draft.mkdir()
            for name in _NAMES:
                np.save(draft / f"{name}.npy", getattr(recordings, name))
            (draft / "damage.json").write_text(json.dumps(damage))
            os.rename(draft, entry)
        except OSError:
            # Another process was first with the same contents.
            if not entry.is_dir():
                raise
        finally:
            shutil.rmtree(around, ignore_errors=True)
    for text in json.loads((entry / "damage.json").read_text()):
        warnings.warn(text, DamagedRecordingWarning, stacklevel=2)
    return Recordings(**{n: np.load(entry / f"{n}.npy", mmap_mode="r") for n in _NAMES})
