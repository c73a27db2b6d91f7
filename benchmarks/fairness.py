"""Before any timing: the rivals compute what we compute, spike for spike."""

import torch
import torch.nn.functional as F
from spikingjelly.activation_based.neuron import LIFNode
from torch import Tensor, nn

from benchmarks.rivals import PlainLoop, ours
from msr_zoo.bench.spikingjelly import SpikingJelly
from msr_zoo.neurons import LIF


def check(
    name: str, num_steps: int, size: int, dtype: torch.dtype, batch: int = 2
) -> dict[str, float]:
    """Compare one evaluation and one training step; raise where float64 disagrees at all.

    In float32 the order of additions differs, so a potential at the threshold may fall either way.
    """
    model = ours(name, num_steps, size).to(dtype)
    rivals = {
        "SpikingJelly": SpikingJelly(model).to(dtype),
        "plain loop": PlainLoop(model),
    }
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, size, size, generator=generator, dtype=dtype)
    logits, spikes = _evaluate(model, x)
    gradients = _gradients(model, x)
    neurons = sum(s.numel() for s in spikes)
    report = {"mean_rate": sum(s.sum().item() for s in spikes) / neurons}
    for rival_name, rival in rivals.items():
        rival_logits, rival_spikes = _evaluate(rival, x)
        pairs = list(zip(spikes, rival_spikes, strict=True))
        different = sum(int((a != b).sum()) for a, b in pairs)
        gradient_error = _relative_error(gradients, _gradients(rival, x))
        logit_error = _relative_error([logits], [rival_logits])
        if dtype == torch.float64 and (different or logit_error > 1e-9 or gradient_error > 1e-9):
            raise SystemExit(
                f"{rival_name} is not the same network as {name}: {different} of {neurons} spikes "
                f"differ, logits by {logit_error:.1e}, gradients by {gradient_error:.1e}"
            )
        report[f"{rival_name}: spikes that differ"] = different / neurons
        report[f"{rival_name}: logits, relative error"] = logit_error
        report[f"{rival_name}: gradients, relative error"] = gradient_error
    return report


@torch.no_grad()
def _evaluate(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and every layer's spikes in the order in which the layers run."""
    spikes: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: spikes.append(output))
        for module in model.modules()
        if isinstance(module, LIF | LIFNode)
    ]
    logits = model.eval()(x)
    for hook in hooks:
        hook.remove()
    return logits, spikes


def _gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.train().zero_grad()
    # The running statistics move, but in training nothing reads them.
    F.cross_entropy(model(x), torch.arange(len(x))).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def _relative_error(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference, over the largest entry of the tensor it stands in."""
    return max(((p - q).abs().max() / p.abs().max()).item() for p, q in zip(a, b, strict=True))
