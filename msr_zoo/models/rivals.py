"""What MS-ResNet is compared with, in its own skeleton: two spiking rivals, one ReLU twin."""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.models import tags
from msr_zoo.models.build import build
from msr_zoo.models.ms_resnet import CIFAR, IMAGENET, MSBlock, MSResNet, fold

__all__ = ["ResNetTwin", "SEWResNet", "SpikingResNet"]


class SpikingBlock(MSBlock):
    """conv3×3 → BN → LIF → conv3×3 → BN, plus a shortcut, then LIF: spikes in, spikes out.

    Zheng et al., AAAI 2021 (tdBN, arXiv 2011.05280). There is no `zero_init_last` here: with an
    empty branch every potential is 0 or 1, where the surrogate is 0, and nothing would be learned.
    """

    convs = (SpikeConv2d, SpikeConv2d, SpikeConv2d)

    def init_weights(self, zero_init_last: bool) -> None:
        # Two normalised paths meet at the neuron: the paper's 1/√2 for each keeps their sum's
        # deviation at the threshold.
        meeting = [
            self.bn2,
            *(m for m in self.shortcut.children() if isinstance(m, nn.BatchNorm2d)),
        ]
        for bn in meeting:
            nn.init.constant_(bn.weight, SpikingResNet.bn_scale / 2**0.5)

    def branch(self, x: Tensor) -> Tensor:
        x = self.lif1(fold(lambda s: self.bn1(self.conv1(s)), x))
        return self.dropped(fold(lambda s: self.bn2(self.conv2(s)), x))

    def forward(self, x: Tensor, num_steps: int) -> Tensor:
        spikes: Tensor = self.lif2(self.branch(x) + fold(self.shortcut, x))
        return spikes


class SEWBlock(MSBlock):
    """conv3×3 → BN → LIF → conv3×3 → BN → LIF, plus a shortcut: whole numbers in and out.

    Fang et al., NeurIPS 2021 (SEW with ADD, arXiv 2102.04159). A shortcut that changes the size
    ends in a LIF. There is no `zero_init_last` here: the last potentials of an empty branch are 0,
    where our rectangular surrogate is 0, so that the branch would stay empty.
    """

    # Sums of spikes reach conv1 and the shortcut; only conv2 sees spikes.
    convs = (nn.Conv2d, SpikeConv2d, nn.Conv2d)

    def __init__(self, in_channels: int, channels: int, stride: int, **kwargs: Any) -> None:
        super().__init__(in_channels, channels, stride, **kwargs)
        same = isinstance(self.shortcut, nn.Identity)
        self.shortcut_lif = nn.Identity() if same else kwargs["neuron"]()

    def init_weights(self, zero_init_last: bool) -> None:
        pass

    def branch(self, x: Tensor) -> Tensor:
        x = self.lif1(fold(lambda s: self.bn1(self.conv1(s)), x))
        return self.dropped(self.lif2(fold(lambda s: self.bn2(self.conv2(s)), x)))

    def forward(self, x: Tensor, num_steps: int) -> Tensor:
        return self.branch(x) + self.shortcut_lif(fold(self.shortcut, x))


class TwinBlock(MSBlock):
    """MSBlock with real values in place of spikes."""

    convs = (nn.Conv2d, nn.Conv2d, nn.Conv2d)


class SpikingResNet(MSResNet):
    """A plain spiking ResNet: the neuron comes after the addition (Zheng et al., AAAI 2021)."""

    block: type[MSBlock] = SpikingBlock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stem_lif = self._neuron()
        self.lif = nn.Identity()  # the last block ends in its own

    def _before_blocks(self, x: Tensor, stem: nn.Module | None = None) -> tuple[Tensor, int]:
        x, num_steps = super()._before_blocks(x, stem)
        return self.stem_lif(x.expand(num_steps, -1, -1, -1, -1)), num_steps


class SEWResNet(SpikingResNet):
    """SEW-ResNet: sums of spikes run along the shortcut (Fang et al., NeurIPS 2021)."""

    block = SEWBlock


class ResNetTwin(MSResNet):
    """The layers of MS-ResNet with ReLU for LIF, so a picture passes once, whatever `num_steps`."""

    block = TwinBlock
    bn_scale = 1.0  # no threshold to scale to

    def __init__(self, *args: Any, num_steps: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, num_steps=num_steps, **kwargs)

    def _neuron(self) -> nn.Module:
        return nn.ReLU()

    def _before_blocks(self, x: Tensor, stem: nn.Module | None = None) -> tuple[Tensor, int]:
        x, _ = super()._before_blocks(x, stem)
        return x, len(x)


default_cfgs = {
    **tags.default_cfgs("spiking_resnet"),
    **tags.default_cfgs("sew_resnet"),
    **tags.default_cfgs("resnet_twin"),
}


@register_model
def spiking_resnet18(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-18 for 224 px pictures."""
    args = {"depths": (2, 2, 2, 2), **IMAGENET, **kwargs}
    return build(SpikingResNet, "spiking_resnet18", pretrained, **args)


@register_model
def spiking_resnet34(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-34 for 224 px pictures."""
    args = {"depths": (3, 4, 6, 3), **IMAGENET, **kwargs}
    return build(SpikingResNet, "spiking_resnet34", pretrained, **args)


@register_model
def spiking_resnet20(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-20 for 32 px pictures."""
    args = {"depths": (3, 3, 3), **CIFAR, **kwargs}
    return build(SpikingResNet, "spiking_resnet20", pretrained, **args)


@register_model
def spiking_resnet32(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-32 for 32 px pictures."""
    args = {"depths": (5, 5, 5), **CIFAR, **kwargs}
    return build(SpikingResNet, "spiking_resnet32", pretrained, **args)


@register_model
def spiking_resnet44(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-44 for 32 px pictures."""
    args = {"depths": (7, 7, 7), **CIFAR, **kwargs}
    return build(SpikingResNet, "spiking_resnet44", pretrained, **args)


@register_model
def spiking_resnet56(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-56 for 32 px pictures."""
    args = {"depths": (9, 9, 9), **CIFAR, **kwargs}
    return build(SpikingResNet, "spiking_resnet56", pretrained, **args)


@register_model
def spiking_resnet110(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-110 for 32 px pictures."""
    args = {"depths": (18, 18, 18), **CIFAR, **kwargs}
    return build(SpikingResNet, "spiking_resnet110", pretrained, **args)


@register_model
def spiking_resnet482(pretrained: bool = False, **kwargs: Any) -> SpikingResNet:
    """Plain spiking ResNet-482 for 32 px pictures."""
    args = {"depths": (80, 80, 80), **CIFAR, **kwargs}
    return build(SpikingResNet, "spiking_resnet482", pretrained, **args)


@register_model
def sew_resnet18(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-18 for 224 px pictures."""
    args = {"depths": (2, 2, 2, 2), **IMAGENET, **kwargs}
    return build(SEWResNet, "sew_resnet18", pretrained, **args)


@register_model
def sew_resnet34(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-34 for 224 px pictures."""
    args = {"depths": (3, 4, 6, 3), **IMAGENET, **kwargs}
    return build(SEWResNet, "sew_resnet34", pretrained, **args)


@register_model
def sew_resnet20(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-20 for 32 px pictures."""
    args = {"depths": (3, 3, 3), **CIFAR, **kwargs}
    return build(SEWResNet, "sew_resnet20", pretrained, **args)


@register_model
def sew_resnet32(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-32 for 32 px pictures."""
    args = {"depths": (5, 5, 5), **CIFAR, **kwargs}
    return build(SEWResNet, "sew_resnet32", pretrained, **args)


@register_model
def sew_resnet44(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-44 for 32 px pictures."""
    args = {"depths": (7, 7, 7), **CIFAR, **kwargs}
    return build(SEWResNet, "sew_resnet44", pretrained, **args)


@register_model
def sew_resnet56(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-56 for 32 px pictures."""
    args = {"depths": (9, 9, 9), **CIFAR, **kwargs}
    return build(SEWResNet, "sew_resnet56", pretrained, **args)


@register_model
def sew_resnet110(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-110 for 32 px pictures."""
    args = {"depths": (18, 18, 18), **CIFAR, **kwargs}
    return build(SEWResNet, "sew_resnet110", pretrained, **args)


@register_model
def sew_resnet482(pretrained: bool = False, **kwargs: Any) -> SEWResNet:
    """SEW-ResNet-482 for 32 px pictures."""
    args = {"depths": (80, 80, 80), **CIFAR, **kwargs}
    return build(SEWResNet, "sew_resnet482", pretrained, **args)


@register_model
def resnet_twin18(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-18 for 224 px pictures."""
    args = {"depths": (2, 2, 2, 2), **IMAGENET, **kwargs}
    return build(ResNetTwin, "resnet_twin18", pretrained, **args)


@register_model
def resnet_twin34(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-34 for 224 px pictures."""
    args = {"depths": (3, 4, 6, 3), **IMAGENET, **kwargs}
    return build(ResNetTwin, "resnet_twin34", pretrained, **args)


@register_model
def resnet_twin20(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-20 for 32 px pictures."""
    args = {"depths": (3, 3, 3), **CIFAR, **kwargs}
    return build(ResNetTwin, "resnet_twin20", pretrained, **args)


@register_model
def resnet_twin32(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-32 for 32 px pictures."""
    args = {"depths": (5, 5, 5), **CIFAR, **kwargs}
    return build(ResNetTwin, "resnet_twin32", pretrained, **args)


@register_model
def resnet_twin44(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-44 for 32 px pictures."""
    args = {"depths": (7, 7, 7), **CIFAR, **kwargs}
    return build(ResNetTwin, "resnet_twin44", pretrained, **args)


@register_model
def resnet_twin56(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-56 for 32 px pictures."""
    args = {"depths": (9, 9, 9), **CIFAR, **kwargs}
    return build(ResNetTwin, "resnet_twin56", pretrained, **args)


@register_model
def resnet_twin110(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-110 for 32 px pictures."""
    args = {"depths": (18, 18, 18), **CIFAR, **kwargs}
    return build(ResNetTwin, "resnet_twin110", pretrained, **args)


@register_model
def resnet_twin482(pretrained: bool = False, **kwargs: Any) -> ResNetTwin:
    """The non-spiking twin of MS-ResNet-482 for 32 px pictures."""
    args = {"depths": (80, 80, 80), **CIFAR, **kwargs}
    return build(ResNetTwin, "resnet_twin482", pretrained, **args)
