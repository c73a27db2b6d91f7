"""Batch norm whose statistics are those of all processes, where torch's own does not run."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Mean(torch.autograd.Function):
    """The mean over all processes; its gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the batches of all processes; torch.nn.SyncBatchNorm runs on GPUs alone.

    Each process must hold as many inputs as every other. Gradients flow through the exchange.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        mean, square = _Mean.apply(moments)
        var = square - mean * mean
        count = x.numel() // x.shape[1] * dist.get_world_size()
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(var * count / (count - 1), self.momentum or 0.0)
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        y = x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return y.to(input.dtype)


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with every batch norm synchronised; its tensors are the same ones."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            # The layers differ in nothing but forward.
            module.__class__ = SyncBatchNorm2d
    return model
