"""timm's registry, narrowed to our models."""

import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from timm.models import PretrainedCfg, get_pretrained_cfg, model_entrypoint
from torch import nn

from msr_zoo.pretrained import WeightsError, reason

Filter = str | Iterable[str]

# What a config.json's lists are of, where it has them.
_LISTS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "input_size": (int, "whole numbers"),
    "mean": ((int, float), "numbers"),
    "std": ((int, float), "numbers"),
    "label_names": (str, "names"),
}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")  # timm's


class UnknownModelError(ValueError, RuntimeError):
    """A name that is no model or tag of ours; timm raises RuntimeError for it."""


def is_model(model_name: str) -> bool:
    """Whether a name, with or without a tag, is one of ours."""
    return timm.is_model(model_name) and model_entrypoint(model_name).__module__.startswith(
        f"{__package__}."
    )


def list_models(
    filter: Filter = "",
    *,
    pretrained: bool = False,
    exclude_filters: Filter = "",
    include_tags: bool | None = None,
) -> list[str]:
    """Names of our models in natural order; wildcards as in `timm.list_models`."""
    names = timm.list_models(
        filter, pretrained=pretrained, exclude_filters=exclude_filters, include_tags=include_tags
    )
    return [name for name in names if is_model(name)]


def list_pretrained(filter: Filter = "", exclude_filters: Filter = "") -> list[str]:
    """Names with tags of our models whose weights lie here or have a place on the Hub."""
    return list_models(filter, pretrained=True, exclude_filters=exclude_filters)


def model_info(model_name: str) -> PretrainedCfg:
    """What a model or a tag was made for: input size, normalisation, classes, weights, licence."""
    _check(model_name)
    cfg = get_pretrained_cfg(model_name, allow_unregistered=False)
    assert cfg is not None
    return cfg


def create_model(model_name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create one of our models by name, or any weights folder or repository of one.

    Takes `arch`, `arch.tag`, `local-dir:FOLDER` and `hf-hub:OWNER/NAME`, and every keyword of
    `timm.create_model`; `num_steps`, `decay` and `threshold` default to those of the tag. Raises
    ValueError for a folder whose config.json describes no model of ours.
    """
    kind, colon, place = model_name.partition(":")
    if kind == "local-dir":
        _check_folder(Path(place))
    elif not colon:
        _check(model_name)
    try:
        return timm.create_model(model_name, pretrained, **kwargs)
    # Weights are fetched by us; only a repository's config.json is fetched by timm.
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise WeightsError(f"No config.json found for {model_name}: {reason(error)}.") from error


def load_pretrained(name: str, **kwargs: Any) -> nn.Module:
    """A model with its weights, from a weights folder or by name; ValueError if that fails."""
    folder = Path(name.removeprefix("local-dir:"))
    if folder.is_dir():
        name = f"local-dir:{folder}"
    elif os.sep in name and ":" not in name:
        raise ValueError(f"{name}: no such folder")
    try:
        return create_model(name, pretrained=True, **kwargs)
    except RuntimeError as error:  # no weights, swapped weights, weights of another network
        raise ValueError(str(error)) from error
    except (AttributeError, KeyError, TypeError) as error:
        if not folder.is_dir():
            raise
        raise ValueError(f"{folder}: config.json describes no model of ours ({error})") from error


def _check_folder(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: not a weights folder, config.json cannot be read") from error
    arch = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(arch, str) or not is_model(arch):
        raise ValueError(f"{folder}: config.json names no model of ours ({arch!r})")
    cfg = config.get("pretrained_cfg")
    if not isinstance(cfg, dict):
        raise ValueError(f"{folder}: config.json has no pretrained_cfg")
    for key, (kind, kinds) in _LISTS.items():
        for value in (config.get(key, []), cfg.get(key, [])):
            if not isinstance(value, list) or not all(isinstance(entry, kind) for entry in value):
                raise ValueError(f"{folder}: {key} in config.json is no list of {kinds}")
    for value in (config.get("input_size", [0] * 3), cfg.get("input_size", [0] * 3)):
        if len(value) != 3:
            raise ValueError(
                f"{folder}: input_size in config.json must be of 3 numbers, got {value}"
            )
    if not isinstance(cfg.get("crop_pct", 1.0), int | float):
        raise ValueError(f"{folder}: crop_pct in config.json is no number: {cfg['crop_pct']!r}")
    if cfg.get("interpolation", "bicubic") not in INTERPOLATIONS:
        raise ValueError(
            f"{folder}: interpolation in config.json must be one of {', '.join(INTERPOLATIONS)}, "
            f"got {cfg['interpolation']!r}"
        )


def _check(model_name: str) -> None:
    if not is_model(model_name):
        names = list_models()
        close = difflib.get_close_matches(model_name.partition(".")[0], names, n=3, cutoff=0.5)
        raise UnknownModelError(
            f"Unknown model {model_name!r}; "
            + (f"close matches: {', '.join(close)}" if close else f"ours are {', '.join(names)}")
        )
    try:
        get_pretrained_cfg(model_name, allow_unregistered=False)
    except RuntimeError:
        arch = model_name.partition(".")[0]
        tagged = list_models(f"{arch}.*", include_tags=True)
        raise UnknownModelError(
            f"Unknown model {model_name!r}; there is {', '.join((arch, *tagged))}"
        ) from None
