"""A folder of recordings as a data set of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .cache import Recordings, cached, digest, joined
from .frames import normalized, to_frames, without_hot_pixels
from .read import read_events
from .stream import Events
from .windows import Window, cut

_ASIDE = {".bias", ".json", ".md", ".tmp_index"}  # what cameras and people put next to recordings


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """How ``train`` and ``val`` come out of recordings that are not yet split.

    ``fraction`` of each class's recordings, at least one, is held out. With ``gap_us`` every
    recording is split in time instead: the last ``fraction`` of it is held out, and ``gap_us``
    before that belongs to neither side.
    """

    fraction: float = 0.2
    gap_us: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction < 1.0:
            raise ValueError(f"fraction must lie between 0 and 1, got {self.fraction}")
        if self.gap_us is not None and self.gap_us < 0:
            raise ValueError(f"gap_us must not be negative, got {self.gap_us}")


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def labelled_files(root: Path, what: str = "recordings") -> list[tuple[str | None, str, Path]]:
    """List (split or None, class, file) of all files below a folder; ValueError if there is none.

    ``what`` says in the errors what was looked for.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder")
    found: list[tuple[str | None, str, Path]] = []
    for outer in filter(Path.is_dir, _entries(root)):
        for inner in _entries(outer):
            if inner.is_dir():
                files = [file for file in _entries(inner) if file.is_file()]
                found += [(outer.name, inner.name, file) for file in files]
            else:
                found.append((None, outer.name, inner))
    found = [item for item in found if item[2].suffix.lower() not in _ASIDE]
    if not found:
        raise ValueError(f"{root} holds no {what} as <class>/<file> or <split>/<class>/<file>")
    if len({split is None for split, _, _ in found}) > 1:
        raise ValueError(f"{root} mixes <class>/<file> with <split>/<class>/<file>")
    return found


class EventFolder(Dataset[tuple[torch.Tensor, int]]):
    """Recordings in ``<class>/<file>`` or ``<split>/<class>/<file>``, cut into windows.

    A sample is a float32 tensor (T, 2, H, W) and a class number. ``split`` picks a folder of the
    second layout (None: all of them). In the first layout it is ``"train"`` or ``"val"``, as
    ``holdout`` divides the recordings (None: all). Windows of one recording never fall on both
    sides, except with the holdout's ``gap_us``, which splits recordings in time.

    ``size`` is (H, W); sensors of different sizes are all taken to be as large as the largest.
    ``transform`` changes a sample's events, with a generator of its own for every ``seed``, epoch
    (``set_epoch``) and index. With ``cache`` the events are read once for all data sets over the
    same files, and mapped from there.

    Raises ValueError for a folder in neither layout, an unknown split, a class that cannot be
    split, or a file that is no recording.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        holdout: Holdout | None = None,
        window: Window | None = None,
        steps: int = 10,
        size: tuple[int, int] = (128, 128),
        normalize: bool = True,
        drop_hot_pixels: bool = False,
        transform: Callable[[Events, Generator], Events] | None = None,
        seed: int = 0,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.steps, self.size, self.normalize = steps, size, normalize
        self.transform, self.seed, self.epoch = transform, seed, 0
        found = labelled_files(self.root)
        self.files = [file for _, _, file in found]
        self.classes = sorted({name for _, name, _ in found})
        self._labels = np.array([self.classes.index(name) for _, name, _ in found])
        chosen, part = self._choose([name for name, _, _ in found], split, holdout or Holdout())
        self._recordings = self._load(drop_hot_pixels, cache)
        self._samples = self._cut(chosen, part, holdout or Holdout(), window or Window())
        if not len(self._samples):
            raise ValueError(f"{self.root} has no window with enough events in split {split!r}")

    def _load(self, drop_hot: bool, cache: str | os.PathLike[str] | None) -> Recordings:
        def read() -> Recordings:
            events = (read_events(file) for file in self.files)
            return joined(without_hot_pixels(one) if drop_hot else one for one in events)

        if cache is None:
            return read()
        return cached(Path(cache), digest(self.files, {"drop_hot_pixels": drop_hot}), read)

    def _choose(
        self, splits: list[str | None], split: str | None, holdout: Holdout
    ) -> tuple[NDArray[np.intp], str | None]:
        """Pick the recordings of a split, and the part of their time, or None for all of it."""
        names = sorted({name for name in splits if name is not None})
        if split is None:
            return np.arange(len(splits)), None
        if names:
            if split not in names:
                raise ValueError(f"{self.root} has the splits {names}, not {split!r}")
            return np.flatnonzero([name == split for name in splits]), None
        if split not in ("train", "val"):
            raise ValueError(f"{self.root} is not split; ask for 'train' or 'val', not {split!r}")
        if holdout.gap_us is not None:
            return np.arange(len(splits)), split
        rng = np.random.default_rng(holdout.seed)
        held: list[int] = []
        for label, name in enumerate(self.classes):
            own = np.flatnonzero(self._labels == label)
            if len(own) < 2:
                raise ValueError(
                    f"class {name!r} in {self.root} has only one recording, and windows of one "
                    "recording in both train and val would leak: record another session, or ask "
                    "for a split in time with Holdout(gap_us=…)"
                )
            count = min(max(1, round(holdout.fraction * len(own))), len(own) - 1)
            held += rng.permutation(own)[:count].tolist()
        is_held = np.isin(np.arange(len(splits)), held)
        return np.flatnonzero(is_held if split == "val" else ~is_held), None

    def _cut(
        self, chosen: NDArray[np.intp], part: str | None, holdout: Holdout, window: Window
    ) -> NDArray[np.int64]:
        """Return (K, 5): the recording, and its window as ``cut`` gives it."""
        samples = [np.empty((0, 5), np.int64)]
        for recording in chosen:
            t = self._recordings[int(recording)].t
            first, last = 0, len(t)
            if part is not None and len(t):
                border = int(t[0]) + round((1 - holdout.fraction) * (int(t[-1]) - int(t[0])))
                train_end = int(np.searchsorted(t, border - (holdout.gap_us or 0)))
                val_start = int(np.searchsorted(t, border))
                first, last = (0, train_end) if part == "train" else (val_start, len(t))
            edges = cut(t[first:last], window)
            edges[:, :2] += first
            samples.append(np.insert(edges, 0, recording, axis=1))
        return np.concatenate(samples)

    @property
    def targets(self) -> list[int]:
        """The class number of every sample."""
        return [int(label) for label in self._labels[self._samples[:, 0]]]

    @property
    def recordings(self) -> list[Path]:
        """The file that every sample comes from."""
        return [self.files[recording] for recording in self._samples[:, 0]]

    def set_epoch(self, epoch: int) -> None:
        """Let the transform draw anew; call it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._samples)

    def events(self, index: int) -> tuple[Events, tuple[int, int]]:
        """Return a sample's events before any transform, and its interval in µs."""
        recording, first, last, begin, end = (int(value) for value in self._samples[index])
        return self._sized(self._recordings[recording][first:last]), (begin, end)

    def recording(self, index: int) -> Events:
        """The whole recording that a sample was cut out of."""
        return self._sized(self._recordings[int(self._samples[index, 0])])

    def _sized(self, events: Events) -> Events:
        width, height = (int(side) for side in self._recordings.sizes.max(axis=0))
        return replace(events, width=width, height=height)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        index = range(len(self))[index]
        events, interval = self.events(index)
        if self.transform is not None:
            events = self.transform(events, np.random.default_rng((self.seed, self.epoch, index)))
        frames = to_frames(events, steps=self.steps, size=self.size, interval=interval)
        label = int(self._labels[self._samples[index, 0]])
        return normalized(frames) if self.normalize else frames, label
