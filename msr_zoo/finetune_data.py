"""Samples to fine-tune on: event recordings or pictures, in folders named after their classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn
from torchvision import transforms

from msr_zoo.event_input import EventInput
from msr_zoo.events import Augmentation, EventFolder, Events, Window, around_median
from msr_zoo.events.folder import labelled_files
from msr_zoo.finetune_split import Sample
from msr_zoo.predict import picture_suffixes, read_picture

KEPT_BYTES = 2**30  # of decoded pictures
SMALLEST_CROP = (0.35, 1.0)  # shares of a picture's area
FIELD = 0.75  # of the longer side of a sensor, about the median event
SHORT_US = 1_000_000  # recordings shorter than this are one sample each
WINDOW_US = 100_000


class Samples(Protocol):
    """Labelled samples, as tensors that the model takes: as they are, or augmented.

    ``num_steps`` are other steps of event frames than the model's; still pictures have none.
    """

    classes: list[str]
    files: list[Path]
    samples: list[Sample]
    events: EventInput | None

    def plain(self, chosen: Sequence[int]) -> Tensor: ...
    def augmented(
        self, chosen: Sequence[int], rng: np.random.Generator, num_steps: int | None = None
    ) -> Tensor: ...


def are_pictures(root: Path) -> bool:
    """Whether the first file in a folder of class folders is a picture, by its name."""
    _, _, first = labelled_files(root, "pictures or recordings")[0]
    return first.suffix.lower() in picture_suffixes()


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How recordings are varied in training: `Augmentation`, and another time and pace.

    A window begins up to ``sooner`` of its length earlier or later, and lasts up to ``exp(pace)``
    times longer or shorter, as if the motion were slower or faster.
    """

    augmentation: Augmentation
    sooner: float = 0.5
    pace: float = 0.5


class RecordedEvents:
    """Windows of event recordings, as frames (B, T, 2, H, W).

    `window_us` None takes recordings shorter than a second whole, and others in windows of 100 ms.
    """

    def __init__(
        self,
        root: Path,
        *,
        num_steps: int,
        side: int,
        window_us: int | None,
        motion: Motion,
        cache: Path,
    ) -> None:
        folder = EventFolder(root, cache=cache)
        durations = [folder.recording(i).duration for i in range(len(folder))]
        if window_us is None and np.median(durations) >= SHORT_US:
            window_us = WINDOW_US
        if window_us is not None:
            folder = EventFolder(root, cache=cache, window=Window(duration_us=window_us))
        self.folder, self.motion = folder, motion
        self.classes, self.files = folder.classes, folder.files
        sensor = folder.recording(0)
        longest = max(sensor.height, sensor.width)
        # Objects that are held before a camera take no more; a small camera is seen whole.
        field = min(longest, max(side, round(FIELD * longest)))
        self._field = field
        self._framed = EventInput(
            window_us=window_us,
            num_steps=num_steps,
            size=(side, side),
            sensor=(sensor.height, sensor.width),
            field=field,
        )
        self.events: EventInput | None = self._framed
        targets = folder.targets
        number = {file: n for n, file in enumerate(self.files)}
        self.samples = [
            self._sample(i, targets[i], number[file]) for i, file in enumerate(folder.recordings)
        ]

    def _sample(self, index: int, label: int, source: int) -> Sample:
        start = int(self.folder.recording(index).t[0])
        begin, end = self.folder.events(index)[1]
        return Sample(
            label=label,
            source=source,
            session=_session(self.files[source], self.folder.root),
            begin=begin - start,
            end=end - start,
        )

    def plain(self, chosen: Sequence[int]) -> Tensor:
        return torch.stack([self._framed.frames(*self.folder.events(i)) for i in chosen])

    def augmented(
        self, chosen: Sequence[int], rng: np.random.Generator, num_steps: int | None = None
    ) -> Tensor:
        taken = replace(self._framed, num_steps=num_steps or self._framed.num_steps)
        return torch.stack([taken.drawn(*self._augmented(i, rng)) for i in chosen])

    def _augmented(self, index: int, rng: np.random.Generator) -> tuple[Events, tuple[int, int]]:
        events, interval = self.folder.events(index)
        if self._framed.window_us is not None:
            begin, end = interval
            length = end - begin
            begin += round(length * rng.uniform(-self.motion.sooner, self.motion.sooner))
            end = begin + round(length * np.exp(rng.uniform(-self.motion.pace, self.motion.pace)))
            recording = self.folder.recording(index)
            first, last = np.searchsorted(recording.t, (begin, end))
            if first < last:  # else it keeps its own events, in its own interval
                events, interval = recording[first:last], (begin, end)
        return self.motion.augmentation(around_median(events, self._field), rng), interval


class Pictures:
    """Pictures, as a model's `pretrained_cfg` asks for them: (B, C, H, W)."""

    events: EventInput | None = None

    def __init__(self, root: Path, model: nn.Module, *, mirror: bool) -> None:
        found = labelled_files(root, "pictures")
        self.files = [file for _, _, file in found]
        self.classes = sorted({name for _, name, _ in found})
        self.samples = [
            Sample(self.classes.index(name), number, session)
            for number, (session, name, _) in enumerate(found)
        ]
        config = resolve_data_config(model=model)
        _, *size = config["input_size"]
        self._plain = create_transform(**config)
        self._augment = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=SMALLEST_CROP, antialias=True),
                transforms.RandomHorizontalFlip(0.5 if mirror else 0.0),
                transforms.ToTensor(),
                transforms.Normalize(config["mean"], config["std"]),
            ]
        )
        self._side, room = 2 * max(size), KEPT_BYTES
        self._kept: dict[int, Image.Image] = {}
        for number in range(len(self.files)):  # a broken one is better found now
            picture = self._small(number)
            room -= 3 * picture.width * picture.height
            if room > 0:
                self._kept[number] = picture

    def _small(self, number: int) -> Image.Image:
        """A picture with twice the pixels that a crop needs: decoding anew would cost more."""
        if number in self._kept:
            return self._kept[number]
        picture = read_picture(self.files[number])
        scale = self._side / min(picture.size)
        if scale >= 1:
            return picture
        return picture.resize((round(picture.width * scale), round(picture.height * scale)))

    def plain(self, chosen: Sequence[int]) -> Tensor:
        return torch.stack([self._plain(read_picture(self.files[i])) for i in chosen])

    def augmented(
        self, chosen: Sequence[int], rng: np.random.Generator, num_steps: int | None = None
    ) -> Tensor:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator
            torch.manual_seed(int(rng.integers(2**62)))
            return torch.stack([self._augment(self._small(i)) for i in chosen])


def _session(file: Path, root: Path) -> str | None:
    """The folder around a class's folder, unless that is the root."""
    around = file.parent.parent
    return None if around == root else around.name
