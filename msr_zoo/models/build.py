"""From a variant's numbers to a model, through timm's own builder."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg, build_model_with_cfg, resolve_pretrained_cfg
from torch import nn

from msr_zoo import pretrained as weights
from msr_zoo.models.tags import HUB_OWNER, TAGS

# What timm takes out of the arguments before it calls the constructor.
_OTHERS = {"pretrained_model_args", "features_only", "out_indices", "feature_cls"}


def build(
    cls: type[nn.Module],
    variant: str,
    pretrained: bool,
    *,
    defaults: Mapping[str, Any] | None = None,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    **kwargs: Any,
) -> Any:
    """Build a variant; of equal arguments the caller's come first, then the tag's, then `defaults`.

    A tag speaks where it is named or its weights are asked for. `pretrained_cfg` may be a tag, a
    dictionary or timm's PretrainedCfg.
    """
    if (features := kwargs.get("feature_cls", "getter")) != "getter":
        # The others of timm run or hook the children, and ours are lists of blocks over time.
        raise ValueError(f"feature_cls must be 'getter', got {features!r}")
    cfg = resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay)
    stored = (kwargs.get("pretrained_model_args") or {}).get("num_classes", cfg.num_classes)
    if stored != cfg.num_classes:  # and timm would leave the head at random
        raise ValueError(
            f"num_classes in config.json is {cfg.num_classes!r}, and {stored!r} in its model_args"
        )
    named = pretrained or pretrained_cfg
    # A file, a folder or a repository says itself, in its config.json, what it was trained for.
    tag = TAGS.get(f"{cfg.architecture}.{cfg.tag}") if named and not cfg.source else None
    kwargs = {**(defaults or {}), **(tag.model_args() if tag else {}), **kwargs}
    if pretrained:
        cfg = _fetched(cfg, cache_dir)
    stages = range(len(kwargs["channels"]) + 1)  # the stem's output is the first feature
    model: Any = build_model_with_cfg(
        cls,
        variant,
        pretrained,
        pretrained_cfg=asdict(cfg),
        pretrained_filter_fn=weights.check_keys,
        feature_cfg={"feature_cls": "getter", "out_indices": tuple(stages)},
        **kwargs,
    )
    # timm records what the caller passed and no more; an export must rebuild the model from this.
    model._model_args = {key: value for key, value in kwargs.items() if key not in _OTHERS}
    # Now, because the folder may move, and a relative path means another one after a chdir.
    model._config = weights.config_beside(cfg.file)
    return model


def _fetched(cfg: PretrainedCfg, cache_dir: str | Path | None) -> PretrainedCfg:
    """The configuration with the file that its weights were found in, if it names any."""
    ours = str(cfg.hf_hub_id or "").removeprefix(f"{HUB_OWNER}/").partition("@")[0]
    tag = TAGS.get(ours)
    file = weights.locate(cfg, ours if tag else "", tag.sha256 if tag else None, cache_dir)
    if file is None:
        return cfg
    return replace(cfg, file=str(file), source=None, custom_load=False)
