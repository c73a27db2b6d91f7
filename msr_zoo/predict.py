"""A picture in; labels with probabilities, and the activity that led to them, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import nn

from msr_zoo.activity import Activity, record_activity

__all__ = ["EXAMPLE", "Prediction", "Predictor", "pictures_in", "read_picture"]

EXAMPLE = Path(__file__).parent / "examples" / "chelsea.jpg"


@dataclass(frozen=True)
class Prediction:
    """The best labels with their probabilities, best first, and what the network did for them."""

    picture: str
    labels: Mapping[str, float]
    activity: Activity

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; counts and joules are for this one picture."""
        labels = [{"label": name, "probability": p} for name, p in self.labels.items()]
        return {"picture": self.picture, "labels": labels, **self.activity.as_dict()}


class Predictor:
    """Names what is in a picture, prepared as the model's `pretrained_cfg` asks.

    The model is set to evaluation. Raises ValueError if its input has not three channels.
    """

    def __init__(self, model: nn.Module, *, top_k: int = 5) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.model: Any = model.eval()
        if self.model.in_chans != 3:
            raise ValueError(
                f"a picture has 3 channels, and this model takes {self.model.in_chans}"
            )
        self.labels = label_names(self.model)
        self.top_k = min(top_k, len(self.labels))
        config = resolve_data_config(model=model)
        self.transform = create_transform(**config)

    @torch.inference_mode()
    def __call__(
        self, picture: str | Path | Image.Image, *, keep_spikes: bool = False
    ) -> Prediction:
        """Predict one picture; `keep_spikes` keeps the spikes of every layer in its activity."""
        if isinstance(picture, Image.Image):
            name, image = "picture", as_rgb(picture)
        else:
            name, image = str(picture), read_picture(picture)
        x = self.transform(image).unsqueeze(0).to(next(self.model.parameters()).device)
        with record_activity(self.model, keep_spikes=keep_spikes) as activity:
            logits = self.model(x)[0]
        best, indices = logits.float().softmax(0).topk(self.top_k)
        pairs = zip(indices.tolist(), best.tolist(), strict=True)
        return Prediction(name, {self.labels[i]: p for i, p in pairs}, activity)


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
    suffixes = Image.registered_extensions()
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
    if not files:
        raise ValueError(f"{path}: no picture in this folder")
    return files


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
    """Turn upright as EXIF says, put on white what is transparent, and bring 16 bits to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("some of its pixels are not finite")
        if image.mode != "F" and values.max() > 255:
            values = values / 257  # 65535 is white
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
