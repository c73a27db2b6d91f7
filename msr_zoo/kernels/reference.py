"""The LIF neuron as the equations say it: the truth that every faster kernel is tested against."""

from typing import Any

import torch
from torch import Tensor


class _Fire(torch.autograd.Function):
    """Heaviside step forward, rectangle of the given width and height 1 backward."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, window: float) -> Tensor:
        ctx.save_for_backward(((u - threshold).abs() < window / 2).to(u.dtype))
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (surrogate,) = ctx.saved_tensors
        return grads[0] * surrogate, None, None


def lif(x: Tensor, decay: float, threshold: float, window: float) -> Tensor:
    """Spikes of x's shape and dtype for input currents x (T, ...).

    u_t = decay * u_{t-1} * (1 - s_{t-1}) + x_t;  s_t = u_t > threshold  (Hu et al., TNNLS 2024).
    The reset's s_{t-1} carries no gradient. float16 and bfloat16 accumulate in float32.
    """
    accumulate = x.dtype if x.dtype == torch.float64 else torch.float32
    u = torch.zeros_like(x[0], dtype=accumulate)
    s = torch.zeros_like(u)
    spikes = []
    for x_t in x.to(accumulate):
        u = decay * u * (1 - s.detach()) + x_t
        s = _Fire.apply(u, threshold, window)
        spikes.append(s)
    return torch.stack(spikes).to(x.dtype)
