"""Which models the event-driven engine can run, and whether one has changed since."""

import threading
from collections.abc import Callable, Iterable
from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from timm.layers import DropPath, SelectAdaptivePool2d
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from msr_zoo.kernels import native
from msr_zoo.kernels.packing import MAX_LANES, lanes_of
from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.models.ms_resnet import MSBlock, MSResNet
from msr_zoo.neurons import LIF

__all__ = ["Stamp", "hooked", "in_training", "unfit", "why_not"]

# Settings that a prepared layer keeps, or that decide whether the engine knows it.
CONV = itemgetter("stride", "padding", "padding_mode", "dilation", "groups")
POOL = itemgetter("kernel_size", "stride", "padding", "ceil_mode")
# What the engine replaces and training makes behave in another way.
MODAL = (nn.BatchNorm2d, DropPath)
# Methods that the engine does not call; of other parts it is `forward` alone.
METHODS: dict[type[nn.Module], tuple[str, ...]] = {
    MSResNet: ("forward", "forward_features", "forward_head", "_spikes", "_stage", "_after_blocks"),
    MSBlock: ("forward", "branch", "dropped"),
}


def why_not(model: nn.Module) -> str | None:
    """The reason for which the engine cannot run a model, or None."""
    return unfit(model) or hooked(model.named_modules())


def in_training(model: nn.Module) -> bool:
    """Whether a call would learn or drop: the model or a part of it is in training mode."""
    return any(m.training for m in model.modules() if m is model or isinstance(m, MODAL))


def hooked(modules: Iterable[tuple[str, nn.Module]]) -> str | None:
    """What of the modules the engine would not call in this thread."""
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return "there are hooks on all modules, which the engine would not call"
    for name, module in modules:
        for method in METHODS.get(type(module), ("forward",)):
            if method in module.__dict__:
                return f"{name or 'it'} has a {method} of its own, which the engine would not call"
        if module._forward_hooks or module._forward_pre_hooks:
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            here = threading.get_ident()
            # Those of `record_activity` do nothing in other threads than its own.
            if any(getattr(hook, "only_thread", here) == here for hook in hooks):
                return f"{name or 'it'} has hooks, which the engine would not call"
    return None


def unfit(model: nn.Module) -> str | None:
    """What of a model's parts the engine does not know, or None."""
    if native.library is None:
        return native.problem
    if type(model) is not MSResNet:
        return f"{type(model).__name__} is no MSResNet"
    if reason := _tensors(model):
        return reason
    if not model.training and in_training(model):
        return "a part of it is in training mode"
    if not _is_average(model.global_pool) or type(model.lif) is not LIF:
        return "its head is not average pooling of spikes"
    stages = [(name, list(model.get_submodule(name).children())) for name in model.stages]
    for name, blocks in stages:
        for index, block in enumerate(blocks):
            if reason := _block(block):
                return f"{name}.{index} has {reason}"
    return None if any(blocks for _, blocks in stages) else "it has no blocks"


def _tensors(model: nn.Module) -> str | None:
    for tensor in _floating(chain(model.parameters(), model.buffers())):
        if tensor.is_meta:
            return "its weights are an engine's"
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            return "its weights are not float32 on the CPU"
        if not tensor.detach().isfinite().all():
            return "some of its weights are not finite"
    return None


def _block(block: nn.Module) -> str | None:
    """What of a block the engine does not know."""
    if type(block) is not MSBlock:
        return f"a {type(block).__name__} for a block"
    for name in ("lif1", "lif2"):
        if type(block.get_submodule(name)) is not LIF:
            return f"other neurons than LIF at {name}"
    if type(block.drop_path) not in (nn.Identity, DropPath):
        return "other parts at drop_path"
    for i in (1, 2):
        conv, bn = block.get_submodule(f"conv{i}"), block.get_submodule(f"bn{i}")
        strides = ((1, 1), (2, 2)) if i == 1 else ((1, 1),)
        if not _is_conv(conv, 3, 1, strides) or not _is_norm(bn, conv):
            return f"another convolution or norm than the engine's at conv{i}"
    return _shortcut(block)


def _shortcut(block: MSBlock) -> str | None:
    """The same for a shortcut; the branch is known to fit."""
    conv1: Any = block.conv1
    shortcut = block.shortcut
    if type(shortcut) is nn.Identity:
        fits = conv1.stride == (1, 1) and conv1.in_channels == conv1.out_channels
    elif type(shortcut) is nn.Sequential and len(shortcut) in (2, 3):
        *before, conv, bn = shortcut
        pooled = [pool for pool in before if type(pool) is nn.AvgPool2d]
        # A pool halves as the branch does, the last odd pixel too; or the convolution does.
        halves = [
            (p.kernel_size, p.stride, p.padding, p.ceil_mode) == (2, 2, 0, True) for p in pooled
        ]
        strides = ((1, 1),) if before else (conv1.stride,)
        fits = len(pooled) == len(before) and all(halves) and (not before or conv1.stride == (2, 2))
        fits = fits and _is_conv(conv, 1, 0, strides) and _is_norm(bn, conv)
        fits = fits and conv.out_channels == conv1.out_channels
    else:
        fits = False
    return None if fits else "another shortcut than the engine's"


def _is_average(pool: Any) -> bool:
    """Whether a pool makes (B, C) of (B, C, H, W) by the mean."""
    mean, flatten = getattr(pool, "pool", None), getattr(pool, "flatten", None)
    return (
        type(pool) is SelectAdaptivePool2d
        and pool.pool_type == "avg"
        and type(mean) is nn.AdaptiveAvgPool2d
        and mean.output_size in (1, (1, 1))
        and type(flatten) is nn.Flatten
    )


def _is_conv(
    conv: nn.Module, kernel: int, padding: int, strides: tuple[tuple[int, int], ...]
) -> bool:
    return (
        type(conv) in (nn.Conv2d, SpikeConv2d)
        and "weight" in conv._parameters  # not computed from others before each call
        and conv.weight.shape == (conv.out_channels, conv.in_channels, kernel, kernel)
        and conv.bias is None
        and conv.stride in strides
        and conv.padding == (padding, padding)
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and lanes_of(conv.in_channels) <= MAX_LANES
    )


def _is_norm(bn: nn.Module, conv: Any) -> bool:
    return (
        type(bn) is nn.BatchNorm2d
        and bn.affine
        and bn.running_mean is not None
        and bn.running_var is not None
        and bn.num_features == conv.out_channels
    )


def _floating(values: Iterable[object]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]


class Stamp:
    """What a model was like: its parts, its tensors with their versions, its constants.

    torch leaves no trace of what is written through `.data` or numpy, nor into tensors that were
    made under `inference_mode`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(model.named_modules())
        modules = [module for _, module in self.modules]
        groups = [group for m in modules for group in (m._modules, m._parameters, m._buffers)]
        members = [
            (group, name, part)
            for group in groups
            for name, part in group.items()
            # Counters of batches matter to nobody here.
            if not isinstance(part, Tensor) or part.is_floating_point()
        ]
        # torch counts what is written into a tensor, unless it was made under inference_mode.
        self._counted = [
            (group, name, tensor, tensor._version, tensor.data_ptr())
            for group, name, tensor in members
            if isinstance(tensor, Tensor) and not tensor.is_inference()
        ]
        counted = {id(tensor) for _, _, tensor, _, _ in self._counted}
        self._parts = [member for member in members if id(member[2]) not in counted]
        uncounted = _floating(part for _, _, part in self._parts)
        # Held, so that no new tensor can have the address of an old one.
        self._memory = [part.detach() for _, _, part in members if isinstance(part, Tensor)]
        lifs = [m.__dict__ for m in modules if isinstance(m, LIF)]
        norms = [m.__dict__ for m in modules if isinstance(m, nn.BatchNorm2d)]
        convs = [m.__dict__ for m in modules if isinstance(m, nn.Conv2d)]
        pools = [m.__dict__ for m in modules if isinstance(m, nn.AvgPool2d)]
        heads = [m.__dict__ for m in modules if isinstance(m, SelectAdaptivePool2d)]
        modal = [m.__dict__ for m in modules if m is model or isinstance(m, MODAL)]
        self._facts: list[tuple[Callable[[Any], Any], list[Any]]] = [
            (len, [m._modules for m in modules if m._modules]),
            (Tensor.data_ptr, uncounted),
            (itemgetter("decay", "threshold"), lifs),
            (itemgetter("eps"), norms),
            (CONV, convs),
            (POOL, pools),
            (itemgetter("pool_type"), heads),
            (itemgetter("training"), modal),
        ]
        self._values = self._read()

    def holds(self) -> bool:
        """Tell whether the model is still like this; takes microseconds."""
        for group, name, tensor, version, address in self._counted:
            if (
                group.get(name) is not tensor
                or tensor._version != version
                or tensor.data_ptr() != address
            ):
                return False
        for group, name, part in self._parts:
            if group.get(name) is not part:
                return False
        return self._read() == self._values

    def _read(self) -> list[list[Any]]:
        return [list(map(fact, things)) for fact, things in self._facts]
