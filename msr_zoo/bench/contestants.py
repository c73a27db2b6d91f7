"""Who is measured: a model by the engine and by torch, and what it is compared with."""

import copy
import functools
import itertools
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from msr_zoo.engine import EventEngine
from msr_zoo.event_fit import why_not
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.neurons import LIF

__all__ = ["Runs", "bare_convolutions", "contestants", "convolution_calls", "folded", "twin"]

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# One contestant, once for each of its layouts.
Runs = Mapping[str, Callable[[], object]]


def contestants(model: MSResNet, x: Tensor) -> dict[str, Runs]:
    """The model by the engine and by torch, its bare convolutions, and its non-spiking twin."""
    calls = convolution_calls(model, x)
    picture = x if x.dim() == 4 else x[:, 0]
    plain = folded(twin(model))
    entries: dict[str, Runs] = {}
    if why_not(model) is None:
        entries["engine, float32"] = {"": functools.partial(EventEngine(model), x)}
        entries["engine, int8"] = {"": functools.partial(EventEngine(model, weights="int8"), x)}
    entries["torch, float32"] = _layouts(model, x, torch.float32)
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        entries[f"bare convolutions, {name}"] = {
            layout: bare_convolutions(calls, dtype, f) for layout, f in LAYOUTS.items()
        }
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        entries[f"non-spiking twin, {name}"] = _layouts(plain, picture, dtype)
    if find_spec("spikingjelly") and can_be_spikingjelly(model):
        from msr_zoo.bench.spikingjelly import SpikingJelly

        rival = SpikingJelly(model)
        entries["SpikingJelly, float32"] = _layouts(rival, x, torch.float32)
        entries["SpikingJelly, BN folded, bfloat16"] = _layouts(folded(rival), x, torch.bfloat16)
    return entries


def can_be_spikingjelly(model: MSResNet) -> bool:
    """Whether SpikingJelly 2.0 has this network: pictures, and a stem of one convolution."""
    return model.in_chans == 3 and len(model.stem) == 2


def _layouts(net: nn.Module, x: Tensor, dtype: torch.dtype) -> Runs:
    """Calls of copies of a network, in each layout, in one precision."""
    runs = {}
    for name, layout in LAYOUTS.items():
        own = copy.deepcopy(net).to(memory_format=layout).to(dtype)
        pictures = x.flatten(0, -4).to(dtype).contiguous(memory_format=layout).view(x.shape)
        runs[name] = functools.partial(own, pictures)
    return runs


def twin(model: MSResNet) -> MSResNet:
    """The same network with ReLU in the neurons' place, run once: what a dense network costs."""
    net = copy.deepcopy(model)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, LIF):
                setattr(parent, name, nn.ReLU())
    net.num_steps = 1
    return net


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


# A convolution and the shape of its input, steps folded into the batch.
Call = tuple[nn.Conv2d, torch.Size]


def convolution_calls(model: nn.Module, x: Tensor) -> list[Call]:
    """Every call of a convolution in model(x); what is constant in time has one step."""
    calls: list[Call] = []
    hooks = [
        module.register_forward_pre_hook(lambda conv, inputs: calls.append((conv, inputs[0].shape)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return calls


def bare_convolutions(
    calls: list[Call], dtype: torch.dtype, layout: torch.memory_format
) -> Callable[[], object]:
    """The convolutions and nothing between them: no dense implementation can be faster."""
    inputs: dict[torch.Size, Tensor] = {}
    prepared: list[tuple[Tensor, Tensor, Any, Any]] = []
    for conv, shape in calls:
        if shape not in inputs:
            pictures = (torch.rand(shape) < 0.15).to(dtype)
            inputs[shape] = pictures.contiguous(memory_format=layout)
        weight = conv.weight.detach().to(dtype).contiguous(memory_format=layout)
        prepared.append((inputs[shape], weight, conv.stride, conv.padding))

    def run() -> None:
        for pictures, weight, stride, padding in prepared:
            F.conv2d(pictures, weight, None, stride, padding)

    return run
