"""Which weights are here, and loading a model by name or out of a folder."""

import json
import os
from pathlib import Path

import huggingface_hub
from torch import nn

from msr_zoo.pretrained import MIRROR, WEIGHTS_NAME, WHEEL
from msr_zoo.registry import create_model, is_model, model_info


def load(name: str) -> nn.Module:
    """A model with its weights: from a weights folder, or by name."""
    folder = Path(name.removeprefix("local-dir:"))
    if folder.is_dir():
        _check_folder(folder)
        name = f"local-dir:{folder}"
    elif os.sep in name and ":" not in name:
        raise ValueError(f"{name}: no such folder")
    try:
        return create_model(name, pretrained=True)
    except RuntimeError as error:  # no weights, swapped weights, weights of another network
        raise ValueError(str(error)) from error


def _check_folder(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: not a weights folder, config.json cannot be read") from error
    arch = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(arch, str) or not is_model(arch):
        raise ValueError(f"{folder}: config.json names no model of ours ({arch!r})")


def place(name: str) -> str:
    """Where `pretrained=True` would find the weights, in the order in which it looks.

    "wheel", "mirror", "cached", "Hub", or "-" for a model without any.
    """
    if (WHEEL / name / WEIGHTS_NAME).is_file():
        return "wheel"
    if in_mirror(name, WEIGHTS_NAME):
        return "mirror"
    hub_id = model_info(name).hf_hub_id
    if not hub_id:
        return "-"
    return "cached" if huggingface_hub.try_to_load_from_cache(hub_id, WEIGHTS_NAME) else "Hub"


def in_mirror(name: str, file: str) -> Path | None:
    """A file of a weights folder in a mirror that is a folder; a server is not asked."""
    mirror = os.environ.get(MIRROR)
    if not mirror or "://" in mirror:
        return None
    path = Path(mirror).expanduser() / name / file
    return path if path.is_file() else None
