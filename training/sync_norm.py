"""Batch norm whose statistics are those of all processes, where torch's own does not run."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Gather(torch.autograd.Function):
    """The tensors of all processes, stacked; the gradient of each sums what all made of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the batches of all processes; torch.nn.SyncBatchNorm runs on GPUs alone.

    Each process must hold as many inputs as every other. Gradients flow through the exchange.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        # The variance of all, from each one's own and from the spread of their means (Chan et al.,
        # 1979): a mean square less a squared mean would lose it where the mean is large.
        parts: Tensor = _Gather.apply(torch.stack(torch.var_mean(x, (0, 2, 3), correction=0)))
        variances, means = parts.unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + means.var(0, correction=0)
        count = x.numel() // x.shape[1] * len(parts)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(var * count / (count - 1), self.momentum or 0.0)
        scale = self.weight * (var + self.eps).rsqrt()
        y = (x - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
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
