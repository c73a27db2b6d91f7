"""The LIF core as a torch operator that keeps two bits a neuron a step for backward."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from msr_zoo.kernels.autocast import register_autocast
from msr_zoo.kernels.bits import bytes_of, pack_bits, unpack_bits
from msr_zoo.kernels.fused import fused


def lif(x: Tensor, decay: float, threshold: float, window: float) -> Tensor:
    """Spikes of x's dtype for input currents x (T, ...), one independent neuron an element.

    u_t = decay * u_{t-1} * (1 - s_{t-1}) + x_t with u_0 = s_0 = 0, and s_t = 1 where u_t is
    strictly greater than `threshold`. Backward passes 1 where |u_t - threshold| < window / 2 and
    nothing through the reset (Hu et al., TNNLS 2024). Potentials are accumulated in float32 for
    half precision, in x's dtype otherwise. Under autocast float32 is cast to autocast's dtype.

    Raises ValueError where x is not floating point or has no step, and NotImplementedError in
    forward-mode differentiation.
    """
    if not x.is_floating_point():
        raise ValueError(f"lif needs floating-point input currents, got {x.dtype}")
    if x.dim() < 2 or x.shape[0] == 0:
        raise ValueError(
            f"lif needs input currents of shape (T, ...) with T >= 1, got {tuple(x.shape)}"
        )
    # The operator would drop the tangent, which reads as a derivative of 0.
    if unpack_dual(x).tangent is not None:
        raise NotImplementedError("lif has no forward-mode derivative: differentiate in reverse")
    # The operator sees memory in the order in which it lies, so channels-last stays as it is.
    channels_last = x.dim() == 5 and x[0].movedim(1, -1).is_contiguous()
    if channels_last:
        x = x.movedim(2, -1)
    keep = torch.is_grad_enabled() and x.requires_grad
    spikes = _lif(x.reshape(x.shape[0], -1), decay, threshold, window, keep)[0].view(x.shape)
    return spikes.movedim(-1, 2) if channels_last else spikes


@torch.library.custom_op("msr_zoo::lif", mutates_args=())
def _lif(
    x: Tensor, decay: float, threshold: float, window: float, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, N), and spikes and windows packed to (T, ceil(N / 8)).

    The stride of x (T, N) from step to step is 0 for a constant current.
    """
    if kernels := fused(x):
        return kernels.forward(x.contiguous(), decay, threshold, window / 2, keep)
    steps, neurons = x.shape
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    fired = torch.empty(
        (steps, bytes_of(neurons) if keep else 0), dtype=torch.uint8, device=x.device
    )
    near = torch.empty_like(fired)
    u = torch.zeros_like(x[0], dtype=x.dtype if x.dtype == torch.float64 else torch.float32)
    s = torch.zeros_like(u, dtype=torch.bool)
    for t in range(steps):
        u.masked_fill_(s, 0).mul_(decay).add_(x[t])
        torch.gt(u, threshold, out=s)
        spikes[t] = s
        if keep:
            fired[t] = pack_bits(s[None])[0]
            near[t] = pack_bits(((u - threshold).abs_() < window / 2)[None])[0]
    return spikes, fired, near


@_lif.register_fake
def _(
    x: Tensor, decay: float, threshold: float, window: float, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    fired = x.new_empty((x.shape[0], bytes_of(x.shape[1]) if keep else 0), dtype=torch.uint8)
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    return spikes, fired, torch.empty_like(fired)


@torch.library.custom_op("msr_zoo::lif_backward", mutates_args=())
def _lif_backward(grad: Tensor, fired: Tensor, near: Tensor, decay: float) -> Tensor:
    """g_t = grad_t * near_t + decay * (1 - fired_t) * g_{t+1}, all (T, N)."""
    if kernels := fused(grad):
        return kernels.backward(grad, fired, near, decay)
    steps, neurons = grad.shape
    out = torch.empty_like(grad)
    g = torch.zeros_like(
        grad[0], dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32
    )
    for t in reversed(range(steps)):
        g.masked_fill_(unpack_bits(fired[t : t + 1], neurons)[0], 0).mul_(decay)
        g.add_(grad[t] * unpack_bits(near[t : t + 1], neurons)[0])
        out[t] = g
    return out


@_lif_backward.register_fake
def _(grad: Tensor, fired: Tensor, near: Tensor, decay: float) -> Tensor:
    return torch.empty_like(grad)


def _setup_context(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    _, ctx.decay, _, _, keep = inputs
    if keep:
        ctx.save_for_backward(output[1], output[2])
    ctx.mark_non_differentiable(output[1], output[2])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None]:
    fired, near = ctx.saved_tensors
    return _lif_backward(grad.contiguous(), fired, near, ctx.decay), None, None, None, None


_lif.register_autograd(_backward, setup_context=_setup_context)
register_autocast("lif", _lif)
