"""Every registered variant, made small enough for a test."""

from typing import Any

import timm
import torch
from torch import nn

import msr_zoo  # noqa: F401  # registers the models

VARIANTS = timm.list_models(module="ms_resnet") + timm.list_models(module="rivals")

# One variant of each kind of stem, shortcut and family.
KINDS = [
    "msresnet18",
    "msresnet104",
    "msresnet20",
    "msresnet20_dvs",
    "spiking_resnet18",
    "spiking_resnet20",
    "sew_resnet18",
    "sew_resnet20",
    "resnet_twin18",
    "resnet_twin20",
]


def shrunk(name: str, **kwargs: Any) -> nn.Module:
    """The variant with one or two narrow blocks a stage, five classes and, at most, three steps."""
    stages = 3 if timm.get_pretrained_cfg_value(name, "input_size")[-1] != 224 else 4
    small = {
        "depths": (2, 1, 1, 1)[:stages],
        "channels": (4, 6, 8, 10)[:stages],
        "num_classes": 5,
        "num_steps": 3,
        "drop_rate": 0.0,
    }
    torch.manual_seed(0)
    return timm.create_model(name, **{**small, **kwargs})


def randomised(model: nn.Module) -> nn.Module:
    """The model in float64 with nothing left at a special value, and every layer alive."""
    torch.manual_seed(1)
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.4, 1.0)
            nn.init.normal_(module.bias, 0.2, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.1)
    return model
