"""Which weights are here, and where the others are."""

import os
from pathlib import Path

import huggingface_hub

from msr_zoo.pretrained import MIRROR, WEIGHTS_NAME, WHEEL, mirror_folder
from msr_zoo.registry import model_info


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
    # Of a file that is known not to exist the answer is an object, not None.
    file = huggingface_hub.try_to_load_from_cache(hub_id, WEIGHTS_NAME)
    return "cached" if isinstance(file, str) else "Hub"


def in_mirror(name: str, file: str) -> Path | None:
    """A file of a weights folder in a mirror that is a folder; a server is not asked."""
    mirror = os.environ.get(MIRROR)
    if not mirror or "://" in mirror:
        return None
    path = mirror_folder(mirror) / name / file
    return path if path.is_file() else None
