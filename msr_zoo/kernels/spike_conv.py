"""A convolution of spikes that keeps its input for backward as one bit a spike."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_zoo.kernels.autocast import register_autocast
from msr_zoo.kernels.bits import pack_bits, unpack_bits
from msr_zoo.kernels.fused import fused


class SpikeConv2d(nn.Conv2d):
    """A Conv2d without bias, groups or dilation whose input (N, C, H, W) holds only 0 and 1.

    Raises RuntimeError where an `EventEngine(model, frees_weights=True)` has its weights.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.is_meta and not input.is_meta:
            # torch's own convolution would give whatever lay in memory.
            raise RuntimeError("the model has given up its weights to an engine: call that instead")
        if torch.is_grad_enabled() and (self.weight.requires_grad or input.requires_grad):
            stride, padding = [int(v) for v in self.stride], [int(v) for v in self.padding]
            convolved: Tensor = _spike_conv(input, self.weight, stride, padding)[0]
            return convolved
        return super().forward(input)


def _in_memory_order(x: Tensor) -> Tensor:
    """A contiguous view of x, which is contiguous or channels-last."""
    return x if x.is_contiguous() else x.movedim(1, -1)


def _dense(x: Tensor) -> Tensor:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return x if channels_last else x.contiguous()


@torch.library.custom_op("msr_zoo::spike_conv", mutates_args=())
def _spike_conv(
    spikes: Tensor, weight: Tensor, stride: list[int], padding: list[int]
) -> tuple[Tensor, Tensor]:
    """The convolution, and the spikes packed in the order in which they lie in memory."""
    spikes = _dense(spikes)
    flat = _in_memory_order(spikes).reshape(1, -1)
    kernels = fused(flat)
    bits = kernels.pack(flat) if kernels else pack_bits(flat > 0)
    return F.conv2d(spikes, weight, None, stride, padding), bits


@_spike_conv.register_fake
def _(
    spikes: Tensor, weight: Tensor, stride: list[int], padding: list[int]
) -> tuple[Tensor, Tensor]:
    bits = spikes.new_empty((1, (spikes.numel() + 7) // 8), dtype=torch.uint8)
    return F.conv2d(_dense(spikes), weight, None, stride, padding), bits


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    spikes, weight, ctx.stride, ctx.padding = inputs
    ctx.shape = list(spikes.shape)
    ctx.in_order = _dense(spikes).is_contiguous()
    ctx.needs = [spikes.requires_grad, weight.requires_grad]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], weight)


@torch.library.custom_op("msr_zoo::spike_conv_backward", mutates_args=())
def _spike_conv_backward(
    grad: Tensor,
    bits: Tensor,
    weight: Tensor,
    shape: list[int],
    in_order: bool,
    stride: list[int],
    padding: list[int],
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of the spikes and of the weight; one that nobody needs comes back empty."""
    size = math.prod(shape)
    if kernels := fused(grad):
        flat = kernels.unpack(bits, size, grad.dtype)
    else:
        flat = unpack_bits(bits, size).to(grad.dtype)
    spikes = _spike_image(flat, shape, in_order)
    return _gradients(grad, spikes, weight, stride, padding, needs)


@_spike_conv_backward.register_fake
def _(
    grad: Tensor,
    bits: Tensor,
    weight: Tensor,
    shape: list[int],
    in_order: bool,
    stride: list[int],
    padding: list[int],
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    spikes = _spike_image(grad.new_empty((1, math.prod(shape))), shape, in_order)
    return _gradients(grad, spikes, weight, stride, padding, needs)


def _spike_image(flat: Tensor, shape: list[int], in_order: bool) -> Tensor:
    if in_order:
        return flat.view(shape)
    batch, channels, height, width = shape
    return flat.view(batch, height, width, channels).movedim(-1, 1)


def _gradients(
    grad: Tensor,
    spikes: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    if grad.dtype == torch.bfloat16 and spikes.shape[2:] == (1, 1):
        # Of one pixel, with stride 2, torch's own kernel (seen in 2.14.1, on AMX) makes a gradient
        # of the weight out of memory that nobody has written.
        wider = (grad.float(), spikes.float(), weight.float())
        first, second = _gradients(*wider, stride, padding, needs)
        return first.to(grad.dtype), second.to(grad.dtype)
    mask = [*needs, False]
    spikes_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        grad, spikes, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask
    )
    nothing = grad.new_empty(0)
    return (
        nothing if spikes_grad is None else spikes_grad,
        nothing.clone() if weight_grad is None else weight_grad,
    )


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    bits, weight = ctx.saved_tensors
    spikes_grad, weight_grad = _spike_conv_backward(
        grad, bits, weight, ctx.shape, ctx.in_order, ctx.stride, ctx.padding, ctx.needs
    )
    return spikes_grad if ctx.needs[0] else None, weight_grad if ctx.needs[1] else None, None, None


_spike_conv.register_autograd(_backward, setup_context=_setup_context)
register_autocast("spike_conv", _spike_conv)
