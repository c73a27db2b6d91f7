"""Pretrained MS-ResNet deep residual spiking neural networks."""

from timm import create_model

from msr_zoo import models as models

__all__ = ["create_model"]
__version__ = "0.1.0"
