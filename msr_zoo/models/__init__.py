"""The networks; importing this package registers them with timm."""

from msr_zoo.models import ms_resnet, rivals

__all__ = ["ms_resnet", "rivals"]
