"""How an event recording becomes a model's input, as the model's config.json says."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from msr_zoo.events import (
    Events,
    Window,
    around_median,
    cut,
    normalized,
    read_events,
    to_frames,
    without_hot_pixels,
)

__all__ = ["EventInput", "read_recording", "recordings_in"]

# What cameras and people put next to recordings.
_ASIDE = {".bias", ".json", ".jsonl", ".md", ".tmp_index"}


@dataclass(frozen=True, kw_only=True)
class EventInput:
    """The windows and frames that a model was trained on: `spiking.events` in its config.json.

    A window lasts `window_us` µs (None: the whole recording), the next one begins `stride_us`
    after it (None: where it ends), and those with fewer than `min_events` are left out. Each
    becomes frames (`num_steps`, 2, H, W) of `size` (H, W): of the square of `field` pixels about
    its median event, enlarged if it is smaller, or of the whole sensor where None. `sensor` (H, W)
    is the least that a camera is taken to have, for formats that do not tell it. The rest are the
    options of `EventFolder`. Raises ValueError for a number below 1.
    """

    window_us: int | None = 100_000
    stride_us: int | None = None
    num_steps: int = 10
    size: tuple[int, int] = (128, 128)
    sensor: tuple[int, int] | None = None
    min_events: int = 1
    field: int | None = None
    normalize: bool = True
    drop_hot_pixels: bool = False

    def __post_init__(self) -> None:
        numbers = (self.window_us, self.stride_us, self.num_steps, self.min_events, self.field)
        for number in (*numbers, *self.size, *(self.sensor or ())):
            if number is not None and number < 1:
                raise ValueError(f"windows, steps and sizes must be at least 1, got {number}")

    @classmethod
    def of(cls, model: Any) -> "EventInput":
        """What the config.json beside a model's weights said, or the defaults for its input.

        Steps that the model was created with, other than those of the folder, hold here too.
        """
        if told := cls.beside(model):
            return told
        size = model.pretrained_cfg.get("input_size") or (2, 128, 128)
        return cls(num_steps=model.num_steps, size=(size[1], size[2]))

    @classmethod
    def beside(cls, model: Any) -> "EventInput | None":
        """Like `of`, but None where no config.json said anything."""
        if not (found := getattr(model, "_config", None)):
            return None
        file, content = found
        try:
            config = json.loads(content)
            section = config.get("spiking", {}).get("events")
            if section is None:
                return None
            told = cls.from_dict(section)
            stored = config.get("model_args", {}).get("num_steps")
            chosen = stored is not None and model.num_steps != stored
            return replace(told, num_steps=model.num_steps) if chosen else told
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: spiking.events cannot be read ({error})") from error

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> "EventInput":
        """From JSON; ValueError names a key that is not known here."""
        if unknown := section.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        pairs = {key: tuple(section[key]) for key in ("size", "sensor") if section.get(key)}
        return cls(**{**section, **pairs})

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    def prepared(self, events: Events) -> Events:
        """A whole recording on a sensor as large as told, without its hot pixels if told so."""
        if self.sensor is not None:
            height, width = self.sensor
            events = replace(
                events, height=max(height, events.height), width=max(width, events.width)
            )
        return without_hot_pixels(events) if self.drop_hot_pixels else events

    def windows(self, events: Events) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Each window's interval in µs, on the recording's own clock, and its frames."""
        events = self.prepared(events)
        window = Window(
            duration_us=self.window_us,
            # Of a whole recording there is one window.
            stride=self.stride_us if self.window_us else None,
            min_events=self.min_events,
        )
        for first, last, begin, end in cut(events.t, window).tolist():
            yield (begin, end), self.frames(events[first:last], (begin, end))

    def frames(self, events: Events, interval: tuple[int, int]) -> Tensor:
        """The frames (`num_steps`, 2, H, W) of one window with an interval in µs."""
        if self.field is not None:
            events = around_median(events, self.field)
        return self.drawn(events, interval)

    def drawn(self, events: Events, interval: tuple[int, int]) -> Tensor:
        """The frames of events that have been cut out about their median, if they are to be."""
        height, width = self.size
        size = self.size
        if self.field is not None:
            size = (min(height, self.field), min(width, self.field))
        frames = to_frames(events, steps=self.num_steps, size=size, interval=interval)
        if size != self.size:
            frames = F.interpolate(frames, self.size, mode="bilinear")
        return normalized(frames) if self.normalize else frames


def read_recording(path: str | Path) -> Events:
    """The events of a recording; ValueError of one sentence for a file that is none."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return read_events(path)
    except (OSError, ImportError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, those in linked folders too; one that leads back is left out."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from filter(Path.is_file, (Path(place, name) for name in names))


def recordings_in(path: str | Path) -> list[Path]:
    """The file itself, or all files below a folder that may be recordings, sorted."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in files_below(path)
        if file.suffix.lower() not in _ASIDE and not file.name.startswith(".")
    )
    if not files:
        raise ValueError(f"{path}: no recording in this folder")
    return files
