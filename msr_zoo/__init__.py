"""Pretrained MS-ResNet deep residual spiking neural networks."""

from msr_zoo import models as models
from msr_zoo.registry import create_model, is_model, list_models, list_pretrained, model_info

__all__ = ["create_model", "is_model", "list_models", "list_pretrained", "model_info"]
__version__ = "0.1.0"
