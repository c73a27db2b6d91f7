"""From a variant's numbers to a model, through timm's own builder."""

from typing import Any

from timm.models import build_model_with_cfg
from torch import nn


def build(cls: type[nn.Module], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    return build_model_with_cfg(
        cls, variant, pretrained, feature_cfg={"feature_cls": "getter"}, **kwargs
    )
