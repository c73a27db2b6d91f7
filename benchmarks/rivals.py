"""The networks that ours is measured against, each with weights copied from one of ours."""

import copy

import torch
from torch import Tensor, nn

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
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    plain.load_state_dict(conv.state_dict())
    return plain
