"""From a variant's numbers to a model, through timm's own builder."""

from typing import Any

from timm.models import build_model_with_cfg
from torch import nn


def build(cls: type[nn.Module], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    stages = range(len(kwargs["channels"]) + 1)
    feature_cfg = {"feature_cls": "getter", "out_indices": tuple(stages)}
    return build_model_with_cfg(cls, variant, pretrained, feature_cfg=feature_cfg, **kwargs)
