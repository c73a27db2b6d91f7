"""The networks; importing this package registers them with timm."""

from msr_zoo.models import ms_resnet

__all__ = ["ms_resnet"]
