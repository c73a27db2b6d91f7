"""Block dynamical isometry: does the gradient keep its norm through each residual block?

The framework is that of Chen, Deng, Wang, Li and Xie, "A comprehensive and modularized statistical
framework for gradient norm equality in deep neural networks" (TPAMI 2022), which MS-ResNet's paper
applies to spiking networks. What is estimated here, exactly:

A block maps x in R^n to y in R^m: all potentials or spikes (T, B, C, H, W) that enter it, and all
that leave it. A current that is constant in time counts as T inputs. J is the m × n matrix of
∂y/∂x as backward sees it: the surrogate gradient for the derivative of a spike, nothing through the
reset, and batch norm's statistics differentiated too, so that the pictures of a batch are coupled.
m and n differ where a block changes the size: m = n/2 where the stride is 2 and channels double.

    φ(JJᵀ)  = tr(JJᵀ) / m                          the mean squared singular value, of m
    spread  = φ((JJᵀ)²) - φ(JJᵀ)²                  the variance of the m squared singular values

φ is the expected ‖Jᵀv‖² / ‖v‖² for a gradient v at the output without a preferred direction. So 1
means that the block keeps the norm of such gradients, and φ = 1 with spread 0, that it keeps the
norm of every gradient: an isometry. φ of a chain of blocks is, for the theory, the product of
theirs; blocks of φ = 1 ± ε keep it near 1 at any depth only if ε falls with depth.

Both are estimated with K probes v of independent signs ±1 (Hutchinson): E vvᵀ = I, so that
E‖Jᵀv‖² = tr(JJᵀ) and E‖JJᵀv‖² = tr((JJᵀ)²). Signs, not normal numbers, because ‖v‖² is then m
without noise, and an identity comes out as exactly 1 and 0. The spread has its bias from the square
of an estimate taken off, so noise can bring it below 0. Standard errors are those of the K probes
alone; that of the spread is to first order.

Batch norm uses the statistics of the batch, as in training and as the theory assumes; dropout and
drop path are off.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn

from msr_zoo.kernels import reference
from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.neurons import LIF, SURROGATE_WIDTH
from msr_zoo.predict import EXAMPLE, read_picture

__all__ = ["BlockIsometry", "example_batch", "mean_and_deviation", "measure_isometry"]


@dataclass(frozen=True, kw_only=True)
class BlockIsometry:
    """One block: its Jacobian's moments (see the module), and the gradient of one loss at it.

    `gradient_ratio` is ‖∂L/∂input‖ / ‖∂L/∂output‖, whose square is φ if the gradient has no
    preferred direction; `gradient_norm` is ‖∂L/∂output‖ divided by that of the last block. Either
    is None where it would divide by a gradient that is 0.
    """

    name: str
    outputs: int  # m
    inputs: int  # n
    phi: float
    phi_error: float
    spread: float
    spread_error: float
    gradient_ratio: float | None
    gradient_norm: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_isometry(
    model: nn.Module, images: Tensor, labels: Tensor, *, probes: int = 8, seed: int = 0
) -> list[BlockIsometry]:
    """Measure every residual block of one of our networks, first to last.

    The gradients are those of the cross-entropy of one batch, images (B, C, H, W) or
    (B, T, C, H, W) and labels (B,). The model is not changed; memory is that of one backward pass.
    Raises ValueError for another kind of model and for fewer than two probes.
    """
    if not isinstance(model, MSResNet):
        raise ValueError(f"isometry is measured in our networks, got {type(model).__name__}")
    if probes < 2:
        raise ValueError(f"probes must be at least 2, got {probes}")
    network = _twice_differentiable(model)
    blocks = {
        f"{stage}.{name}": block
        for stage in network.stages
        for name, block in network.get_submodule(stage).named_children()
    }
    inputs, outputs, gradients = _trace(network, list(blocks.values()), images, labels)
    into = [_norm(gradient) for gradient in gradients[: len(blocks)]]
    out_of = [_norm(gradient) for gradient in gradients[len(blocks) :]]
    generator = torch.Generator(images.device).manual_seed(seed)
    measured = []
    for index, (name, block) in enumerate(blocks.items()):
        moments = _moments(block, inputs[index], probes, generator)
        measured.append(
            BlockIsometry(
                name=name,
                outputs=outputs[index].numel(),
                inputs=inputs[index].numel(),
                **moments,
                gradient_ratio=_quotient(into[index], out_of[index]),
                gradient_norm=_quotient(out_of[index], out_of[-1]),
            )
        )
    return measured


def example_batch(model: Any) -> tuple[Tensor, Tensor]:
    """One picture of a cat that we ship, or noise for a model that takes no pictures; class 0."""
    config = resolve_data_config(model=model)
    if model.in_chans == 3:
        images = create_transform(**config)(read_picture(EXAMPLE)).unsqueeze(0)
    else:
        shape = (1, *config["input_size"])
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return images, torch.zeros(1, dtype=torch.long)


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Mean and standard deviation over the blocks that have a value; None if none has."""
    known = torch.tensor([v for v in values if v is not None], dtype=torch.float64)
    return (float(known.mean()), float(known.std(correction=0))) if len(known) else None


class _ReferenceLIF(nn.Module):
    """The neuron in plain torch, whose backward can itself be differentiated."""

    def __init__(self, neuron: LIF) -> None:
        super().__init__()
        self.decay, self.threshold = neuron.decay, neuron.threshold

    def forward(self, current: Tensor) -> Tensor:
        return reference.lif(current, self.decay, self.threshold, SURROGATE_WIDTH)


def _twice_differentiable(model: MSResNet) -> MSResNet:
    """A copy that normalises by batch statistics, in operators whose backward has a backward."""
    network = copy.deepcopy(model).eval().requires_grad_(False)
    network.set_grad_checkpointing(False)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LIF):
                setattr(parent, name, _ReferenceLIF(child))
            elif isinstance(child, SpikeConv2d):
                # The same convolution, with torch's own backward.
                child.__class__ = nn.Conv2d  # type: ignore[assignment]  # a class above its own
            elif isinstance(child, nn.BatchNorm2d):
                child.train()
    return network


def _trace(
    network: MSResNet, blocks: list[nn.Module], images: Tensor, labels: Tensor
) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, ...]]:
    """Inputs and outputs (T, B, C, H, W) of the blocks, and the loss's gradients at both."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Tensor, int]) -> tuple[Tensor, int]:
        x, num_steps = args
        # Every block is asked for all steps, the first too, whose input may be constant in time.
        inputs.append(x.expand(num_steps, -1, -1, -1, -1))
        return inputs[-1], num_steps

    def after(_: nn.Module, args: tuple[Tensor, int], output: Tensor) -> None:
        outputs.append(output)

    for block in blocks:
        block.register_forward_pre_hook(before)
        block.register_forward_hook(after)
    with torch.enable_grad():
        logits = network(images.detach().clone().requires_grad_())
        loss = nn.functional.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, [*inputs, *outputs])
    for block in blocks:
        block._forward_pre_hooks.clear()
        block._forward_hooks.clear()
    return [x.detach() for x in inputs], [y.detach() for y in outputs], gradients


def _moments(
    block: nn.Module, x: Tensor, probes: int, generator: torch.Generator
) -> dict[str, float]:
    firsts, seconds = [], []
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        y = block(x, len(x))
        for _ in range(probes):
            signs = torch.randint(2, y.shape, generator=generator, device=y.device)
            v = (2 * signs - 1).to(y.dtype).requires_grad_()
            (back,) = torch.autograd.grad(y, x, v, create_graph=True)  # Jᵀv
            # Jᵀv is linear in v with the matrix Jᵀ, so its own backward multiplies with J.
            (there,) = torch.autograd.grad(back, v, back.detach())  # JJᵀv
            firsts.append(_square(back) / y.numel())
            seconds.append(_square(there) / y.numel())
    first = torch.tensor(firsts, dtype=torch.float64)
    second = torch.tensor(seconds, dtype=torch.float64)
    phi = first.mean()
    # The square of a mean of K is too large, on average, by the variance of that mean.
    spread = second.mean() - (phi**2 - first.var() / probes)
    # The differential of mean(second) - mean(first)², probe by probe.
    spread_error = (second - 2 * phi * first).std() / math.sqrt(probes)
    return {
        "phi": float(phi),
        "phi_error": float(first.std()) / math.sqrt(probes),
        "spread": float(spread),
        "spread_error": float(spread_error),
    }


def _square(x: Tensor) -> float:
    """‖x‖² in float64: the sum of a million float32 ones would be short of some."""
    return float(x.detach().double().square().sum())


def _norm(x: Tensor) -> float:
    return math.sqrt(_square(x))


def _quotient(a: float, b: float) -> float | None:
    return a / b if b else None
