"""A picture or recording in; labels with probabilities, and the activity behind them, out."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from timm.utils import unwrap_model
from torch import Tensor, nn

from msr_zoo.activity import Activity, record_activity
from msr_zoo.engine import EventEngine
from msr_zoo.event_fit import in_training, why_not
from msr_zoo.event_input import EventInput, files_below, read_recording
from msr_zoo.events import Events
from msr_zoo.pretrained import check_data
from msr_zoo.tally import Tally

__all__ = ["EXAMPLE", "Prediction", "Predictor", "WindowPrediction", "pictures_in", "read_picture"]

EXAMPLE = Path(__file__).parent / "examples" / "chelsea.jpg"


# Windows of a recording that are run together.
BATCH = 8
# Transforms enlarge the short side of a picture to the model's, and the long one with it.
LONGEST = 100  # times the short side


@dataclass(frozen=True)
class WindowPrediction:
    """The best labels of one window of a recording, from `begin` to `end` in µs of its clock."""

    begin: int
    end: int
    labels: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"begin_us": self.begin, "end_us": self.end, "labels": _listed(self.labels)}


@dataclass(frozen=True)
class Prediction:
    """The best labels with their probabilities, best first, and what the network did for them.

    Of a recording, the probabilities are means over its windows, and the activity is that for one
    of them.
    """

    picture: str
    labels: Mapping[str, float]
    activity: Activity
    windows: tuple[WindowPrediction, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; counts and joules are for this one picture, or for one window."""
        labels = {"labels": _listed(self.labels)}
        if not self.windows:
            return {"picture": self.picture, **labels, **self.activity.as_dict()}
        windows = {"windows": [window.as_dict() for window in self.windows]}
        return {"recording": self.picture, **labels, **windows, **self.activity.as_dict()}


def _listed(labels: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"label": name, "probability": p} for name, p in labels.items()]


class Predictor:
    """Names what is in a picture, prepared as the model's `pretrained_cfg` asks.

    A model of two channels takes event recordings instead, in the windows that its config.json
    tells of. The model is set to evaluation, and where it can be, it is run by the `EventEngine`.
    Threads may share it. Raises ValueError if its input has neither two nor three channels, or it
    has no classes.
    """

    def __init__(self, model: nn.Module, *, top_k: int = 5) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        model = unwrap_model(model)  # of torch.compile and DataParallel
        check_data(model)
        self.model: Any = model.eval()
        check_answers(self.model)
        self.labels = label_names(self.model)
        self.top_k = min(top_k, len(self.labels))
        self.takes_recordings = self.model.in_chans == 2
        if self.takes_recordings:
            self.event_input = EventInput.of(model)
        else:
            self.transform = create_transform(**resolve_data_config(model=model))
        self._engine = None if why_not(model) else EventEngine(model)
        self._tally = Tally(self.model) if self._engine else None

    @torch.inference_mode()
    def __call__(
        self, source: str | Path | Image.Image | Events, *, keep_spikes: bool = False
    ) -> Prediction:
        """Predict one picture, or one recording.

        `keep_spikes` keeps the spikes of every layer in the activity, and torch runs the model.
        """
        if self.takes_recordings:
            if isinstance(source, Image.Image):
                raise ValueError("this model takes event recordings, not pictures")
            name = "recording" if isinstance(source, Events) else str(source)
            events = source if isinstance(source, Events) else read_recording(source)
            return self._recording(name, events, keep_spikes)
        if isinstance(source, Events):
            raise ValueError("this model takes pictures, not event recordings")
        if isinstance(source, Image.Image):
            name, image = "picture", as_rgb(source)
        else:
            name, image = str(source), read_picture(source)
        probabilities, activity = self._run([self.transform(image)[None].float()], keep_spikes)
        return Prediction(name, self._best(probabilities[0]), activity)

    def _recording(self, name: str, events: Events, keep_spikes: bool) -> Prediction:
        intervals: list[tuple[int, int]] = []

        def batches() -> Iterator[Tensor]:
            windows = self.event_input.windows(events)
            while part := list(itertools.islice(windows, BATCH)):
                intervals.extend(interval for interval, _ in part)
                yield torch.stack([frames for _, frames in part])

        probabilities, activity = self._run(batches(), keep_spikes)
        if not intervals:
            raise ValueError(f"{name}: no window has {self.event_input.min_events} events")
        windows = tuple(
            WindowPrediction(begin, end, self._best(p))
            for (begin, end), p in zip(intervals, probabilities, strict=True)
        )
        return Prediction(name, self._best(probabilities.mean(0)), activity, windows)

    def _run(self, batches: Iterable[Tensor], keep_spikes: bool) -> tuple[Tensor, Activity]:
        """Probabilities (inputs, classes), and the activity over all of the inputs."""
        logits = [torch.empty(0, len(self.labels), dtype=torch.float32)]
        activity = Activity()
        for x in batches:
            if not keep_spikes and self._engine and self._tally and not self._engine.why_not:
                run = self._engine.run(x)
                if run.counts:
                    logits.append(run.logits)
                    self._tally.add(activity, x.shape, run.counts)
                    continue
                # The model has changed since it was asked, and torch ran it unmeasured.
            if in_training(self.model):
                raise ValueError("a part of the model is in training mode: call model.eval()")
            like = next(self.model.parameters())
            with record_activity(self.model, keep_spikes=keep_spikes) as recorded:
                logits.append(self.model(x.to(like)).float().cpu())
            activity.extend(recorded)
        return torch.cat(logits).softmax(1), activity

    def _best(self, probabilities: Tensor) -> dict[str, float]:
        best, indices = probabilities.topk(self.top_k)
        pairs = zip(indices.tolist(), best.tolist(), strict=True)
        return {self.labels[i]: p for i, p in pairs}


def check_answers(model: Any) -> None:
    """Raise ValueError for a model that takes no pictures or recordings, or has no classes."""
    if model.in_chans not in (2, 3):
        raise ValueError(
            f"a picture has 3 channels and a recording 2, and this model takes {model.in_chans}"
        )
    if not model.num_classes:
        raise ValueError("a model without classes (num_classes=0) names nothing")


def label_names(model: Any) -> list[str]:
    """Names of a model's classes: its own, ImageNet's if it has 1000, or "class 0" and so on."""
    count = int(model.num_classes)
    names = model.pretrained_cfg.get("label_names") or ()
    if len(names) == count:
        return list(names)
    if count == 1000:
        # Two of ImageNet's classes are called "crane" and two "maillot".
        info = ImageNetInfo()
        names = [info.index_to_description(i) for i in range(count)]
        return [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return [f"class {i}" for i in range(count)]


def pictures_in(path: str | Path) -> list[Path]:
    """The file itself, or all pictures below a folder, sorted; ValueError if there is none."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    suffixes = picture_suffixes()
    files = sorted(file for file in files_below(path) if file.suffix.lower() in suffixes)
    if not files:
        raise ValueError(f"{path}: no picture in this folder")
    return files


def picture_suffixes() -> set[str]:
    """Endings of the files that Pillow reads by itself; HDF5, for one, it only knows by name."""
    endings = Image.registered_extensions()
    stubs = {
        name
        for name, (reader, _) in Image.OPEN.items()
        if isinstance(reader, type) and issubclass(reader, ImageFile.StubImageFile)
    }
    return {ending for ending, name in endings.items() if name in Image.OPEN and name not in stubs}


def read_picture(path: str | Path) -> Image.Image:
    """An RGB picture, upright; ValueError of one sentence for a file that is none."""
    try:
        with Image.open(path) as image:
            image.load()
            return as_rgb(image)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture") from None
    # A broken file fails in as many ways as there are formats.
    except Exception as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn upright as EXIF says, put on white what is transparent, and bring 16 bits to 8.

    Floats of which none is above 1 are taken to reach from black at 0 to white at 1. Raises
    ValueError for pixels that are not finite, and for one side many times the other.
    """
    if max(image.size) > LONGEST * min(image.size):
        width, height = image.size
        raise ValueError(
            f"it has {width:,} × {height:,} pixels, and the long side may be at most {LONGEST} "
            "times the short one"
        )
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("some of its pixels are not finite")
        if image.mode == "F" and values.max() <= 1:
            values = values * 255
        elif image.mode != "F" and values.max() > 255:
            values = values / 257  # 65535 is white
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
