"""SpikingJelly's MSResNet with the neuron and the weights of ours; needs SpikingJelly 2.0."""

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model.ms_resnet import MSResNet as SpikingJellyMSResNet
from torch import Tensor, nn

from msr_zoo.neurons import SURROGATE_WIDTH

__all__ = ["SpikingJelly", "StrictRectangle"]


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


class StrictRectangle(surrogate.Rect):  # type: ignore[misc]  # it has no types
    """SpikingJelly's rectangle with the paper's width and its strict threshold."""

    @staticmethod
    def spiking_function(x: Tensor, alpha: float) -> Tensor:
        return _StrictRectangle.apply(x)


class _FirstStride1(SpikingJellyMSResNet):  # type: ignore[misc]  # as above
    """SpikingJelly's network with the paper's first stage for 32 px pictures."""

    _first_stage_stride = 1


class SpikingJelly(nn.Module):
    """SpikingJelly's MSResNet; a call starts from rest, as its users must see to themselves."""

    def __init__(
        self, like: Any, surrogate_function: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        stem = like.stem[0]
        first = like.get_submodule(like.stages[0]).get_submodule("0")
        kind = _FirstStride1 if first.conv1.stride[0] == 1 else SpikingJellyMSResNet
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
            surrogate_function=surrogate_function or StrictRectangle(),
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
