"""Pretrained MS-ResNet deep residual spiking neural networks."""

from msr_zoo import models as models
from msr_zoo.activity import record_activity
from msr_zoo.engine import EventEngine
from msr_zoo.finetuning import finetune
from msr_zoo.hub import push_to_hub, save_pretrained
from msr_zoo.predict import Predictor
from msr_zoo.registry import create_model, is_model, list_models, list_pretrained, model_info

__all__ = [
    "EventEngine",
    "Predictor",
    "create_model",
    "finetune",
    "is_model",
    "list_models",
    "list_pretrained",
    "model_info",
    "push_to_hub",
    "record_activity",
    "save_pretrained",
]
__version__ = "0.1.0"
