"""The networks that ours is measured against, each with weights copied from one of ours."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model.ms_resnet import MSResNet as SpikingJellyMSResNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import msr_zoo
from msr_zoo.kernels.reference import lif
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.neurons import LIF, SURROGATE_WIDTH


def ours(name: str, num_steps: int, size: int, seed: int = 0) -> MSResNet:
    """One of our networks, its random weights scaled so that about 0.18 of the neurons fire."""
    torch.manual_seed(seed)
    model: MSResNet = msr_zoo.create_model(name, num_steps=num_steps, zero_init_last=False)
    blocks = sum(1 for module in model.modules() if hasattr(module, "bn2"))
    for module in model.modules():
        if hasattr(module, "bn2"):
            # Branches add up to the variance of the stem, whatever the depth.
            nn.init.constant_(module.bn2.weight, 0.5 / blocks**0.5)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # one batch sets the running statistics
    with torch.no_grad():
        model.train()(torch.randn(4, 3, size, size))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return model


class _StrictRectangle(torch.autograd.Function):
    """Spikes where u > threshold, and a gradient of 1 where |u - threshold| < 0.5.

    Keeps what SpikingJelly's own rectangle keeps, so that neither time nor memory differs from it.
    """

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return (distance.abs() < SURROGATE_WIDTH / 2).to(distance) * grads[0]


class StrictRectangle(surrogate.Rect):
    """SpikingJelly's rectangle with the paper's width and its strict threshold."""

    @staticmethod
    def spiking_function(x: Tensor, alpha: float) -> Tensor:
        return _StrictRectangle.apply(x)


class _FirstStride1(SpikingJellyMSResNet):
    """SpikingJelly's network with the paper's first stage for 32 px pictures."""

    _first_stage_stride = 1


class SpikingJelly(nn.Module):
    """SpikingJelly's MSResNet; a call starts from rest, as its users must see to themselves."""

    def __init__(self, like: MSResNet, surrogate_function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        stem = like.stem[0]
        kind = SpikingJellyMSResNet if len(like.stages) == 4 else _FirstStride1
        self.net = kind(
            T=like.num_steps,
            in_channels=like.in_chans,
            num_classes=like.num_classes,
            layers=tuple(len(like.get_submodule(stage)) for stage in like.stages),
            base_channels=stem.out_channels,
            stem_kernel_size=stem.kernel_size[0],
            stem_stride=stem.stride[0],
            spiking_neuron=neuron.LIFNode,
            tau=1 / (1 - like.decay),
            decay_input=False,
            v_threshold=like.threshold,
            v_reset=0.0,
            detach_reset=True,
            surrogate_function=surrogate_function,
        )
        names = {"shortcut": "downsample", "fc": "head"}
        self.net.load_state_dict(
            {
                ".".join(names.get(part, part) for part in key.split(".")): value
                for key, value in like.state_dict().items()
            }
        )
        self.train(like.training)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.net)
        return self.net(x)


class _StepByStep(nn.Module):
    """A layer called once a step instead of once for the steps folded into the batch."""

    def __init__(self, layer: nn.Module, num_steps: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_steps = num_steps

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.layer(x_t) for x_t in x.chunk(self.num_steps)])


class _LoopedLIF(LIF):
    def forward(self, current: Tensor) -> Tensor:
        return lif(current, self.decay, self.threshold, SURROGATE_WIDTH)


class PlainLoop(nn.Module):
    """The paper's equations as they stand: every layer once a step, the neuron under autograd."""

    def __init__(self, like: MSResNet) -> None:
        super().__init__()
        self.num_steps = like.num_steps
        self.net = copy.deepcopy(like)
        for parent, name, module in _children(self.net):
            if isinstance(module, LIF):
                setattr(parent, name, _LoopedLIF(module.decay, module.threshold))
            elif isinstance(module, nn.Conv2d):
                setattr(parent, name, _StepByStep(_plain(module), self.num_steps))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unsqueeze(1).expand(-1, self.num_steps, -1, -1, -1))


def bare(like: MSResNet) -> MSResNet:
    """The lower bound: the same convolutions over all steps at once, ReLU in the neurons' place."""
    net = copy.deepcopy(like)
    for parent, name, module in _children(net):
        if isinstance(module, LIF):
            setattr(parent, name, nn.ReLU())
        elif isinstance(module, nn.Conv2d):
            setattr(parent, name, _plain(module))
    return net


def _children(net: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    return [
        (parent, name, child) for parent in net.modules() for name, child in parent.named_children()
    ]


def _plain(conv: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=conv.bias is not None,
        dtype=conv.weight.dtype,
    )
    plain.load_state_dict(conv.state_dict())
    return plain


def folded(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode with every batch norm folded into the convolution before it."""
    net = copy.deepcopy(net).eval()
    for parent in list(net.modules()):
        pairs = [("conv1", "bn1"), ("conv2", "bn2")]
        if isinstance(parent, nn.Sequential):
            names = list(dict(parent.named_children()))
            pairs = list(itertools.pairwise(names))
        for conv, bn in pairs:
            if isinstance(getattr(parent, bn, None), nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, bn))
                setattr(parent, conv, fused)
                setattr(parent, bn, nn.Identity())
    return net
