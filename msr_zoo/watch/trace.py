"""One input through one network, with everything kept that can be looked at afterwards."""

import copy
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from msr_zoo.activity import Activity, record_activity
from msr_zoo.engine import EventEngine
from msr_zoo.neurons import LIF
from msr_zoo.predict import label_names
from msr_zoo.tally import Tally

__all__ = ["Flow", "Source", "Trace", "membrane", "trace"]

MOMENTS = ("mean", "std")
THUMBNAIL = 56  # pixels of the small map of a layer, at most
BYTES_A_NEURON = 4.125  # of a float32 and a bit, at each step
SAMPLE = 65_536  # values of a layer that quantiles are taken from, evenly spaced


@dataclass(frozen=True)
class Source:
    """Where a network came from, as it is said on the page."""

    name: str
    trained: bool


@dataclass(frozen=True)
class Flow:
    """Potentials in the stream before one block at one step: mean, and 5 and 95 % quantiles."""

    block: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Trace:
    """What one network did with one input.

    `probabilities` (T, classes) stand after step 1, 2, ... T. `neurons` maps the name of each LIF
    layer to its (decay, threshold). `seen` (1 or T, C, H, W) is the input, pictures from 0 to 1.
    """

    source: Source
    labels: tuple[str, ...]
    probabilities: Tensor
    activity: Activity
    neurons: dict[str, tuple[float, float]]
    seen: Tensor

    @property
    def steps(self) -> int:
        return len(self.probabilities)

    @property
    def layers(self) -> list[str]:
        return list(self.rates)

    @cached_property
    def rates(self) -> dict[str, Tensor]:
        return self.activity.rates

    @cached_property
    def blocks(self) -> dict[str, list[str]]:
        """LIF layers by the residual block they stand in, in order; the last LIF is a block too."""
        blocks: dict[str, list[str]] = {}
        for layer in self.layers:
            blocks.setdefault(block_of(layer), []).append(layer)
        return blocks

    @property
    def streams(self) -> list[str]:
        """LIF layers whose input is the stream of potentials along the shortcuts."""
        return [layers[0] for layers in self.blocks.values()]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """Share of the channels that fire (T, h, w) at each place of a layer, 56 px at most."""
        maps = {}
        for layer in self.layers:
            share = self.spikes(layer).float().mean(1)
            height, width = (min(size, THUMBNAIL) for size in share.shape[1:])
            maps[layer] = nn.functional.adaptive_avg_pool2d(share, (height, width))
        return maps

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(C, H, W) of each LIF layer."""
        shapes = {layer: self.activity.currents(layer).shape[2:] for layer in self.layers}
        return {layer: (int(c), int(h), int(w)) for layer, (c, h, w) in shapes.items()}

    @cached_property
    def flows(self) -> list[list[Flow]]:
        """The stream before each block and before the last neurons: a list a step."""
        steps: list[list[Flow]] = [[] for _ in range(self.steps)]
        for layer in self.streams:
            potential = self.activity.currents(layer)[:, 0].flatten(1).float()
            sample = potential[:, :: max(1, potential.shape[1] // SAMPLE)]
            ends = torch.quantile(sample, sample.new_tensor([0.05, 0.95]), dim=1).T.tolist()
            means = potential.mean(1).tolist()
            for step, mean, (low, high) in zip(steps, means, ends, strict=True):
                step.append(Flow(block_of(layer), mean, low, high))
        return steps

    def best(self, step: int, count: int) -> list[tuple[str, float]]:
        """The likeliest classes after a step (from 1), best first."""
        chances = self.probabilities[step - 1]
        values, indices = chances.topk(min(count, len(chances)))
        return [(self.labels[i], p) for i, p in zip(indices.tolist(), values.tolist(), strict=True)]

    def spikes(self, layer: str) -> Tensor:
        """Spikes of a layer, bool (T, C, H, W)."""
        return self.activity.spikes(layer)[:, 0]

    def potentials(self, layer: str) -> Tensor:
        """Potentials of a layer as they are compared with the threshold (T, C, H, W)."""
        return membrane(self.activity.currents(layer)[:, 0], *self.neurons[layer])

    def bytes(self) -> int:
        """Memory that the kept spikes and currents take, about."""
        neurons = sum(c * h * w for c, h, w in self.shapes.values())
        return int(neurons * self.steps * BYTES_A_NEURON)

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold: the answer after each step, and the activity."""
        answers = [
            [{"label": label, "probability": p} for label, p in self.best(step, 5)]
            for step in range(1, self.steps + 1)
        ]
        return {
            "model": self.source.name,
            "trained": self.source.trained,
            "steps": self.steps,
            "answers": answers,
            "neurons": self.activity.neurons,
            **self.activity.as_dict(),
        }


def block_of(layer: str) -> str:
    """Its block, "layer1.0" of "layer1.0.lif1"; a layer outside the blocks is its own."""
    return re.sub(r"\.lif\d+$", "", layer)


@torch.inference_mode()
def trace(
    model: nn.Module,
    x: Tensor,
    source: Source,
    steps: int | None = None,
    counted: tuple[EventEngine, Tally] | None = None,
) -> Trace:
    """Run a still picture (1, C, H, W) for `steps`, or event frames (1, T, C, H, W) as they are.

    The model's engine, where given with a tally, runs it if it can. The model is left as it is, and
    may be shared with other threads.
    """
    if steps is not None:
        # A shallow copy has the tensors of the model, and a number of steps of its own.
        model = copy.copy(model)
        model.num_steps = steps  # type: ignore[assignment]
    module: Any = model
    # Another default dtype makes pictures of another kind.
    x = x.to(next(model.parameters()).dtype)
    run = None
    if counted is not None and not counted[0].why_not:
        # Refused where the model has changed since it was asked.
        with suppress(ValueError):
            run = counted[0].run(x, steps=steps if x.dim() == 4 else None, keep=True)
    if run is None or counted is None:
        with record_activity(model, keep_spikes=True, keep_currents=True) as activity:
            logits = module.forward_steps(x)[:, 0]
    else:
        tally = counted[1]
        activity = Activity()
        tally.add(activity, x.shape, run.counts)
        tally.keep(activity, run)
        logits = module.head_steps(run.spikes("lif").float())[:, 0]
    neurons = {
        name: (lif.decay, lif.threshold)
        for name, lif in model.named_modules()
        if isinstance(lif, LIF)
    }
    seen = x[0] if x.dim() == 5 else x
    if x.dim() == 4:
        mean, std = (torch.tensor(module.pretrained_cfg[key])[:, None, None] for key in MOMENTS)
        seen = (x * std + mean).clamp(0, 1)
    chances = logits.float().softmax(-1)
    if not torch.isfinite(chances).all():
        raise ValueError(f"{source.name} answers with numbers that are not finite")
    return Trace(source, tuple(label_names(model)), chances, activity, neurons, seen)


def membrane(currents: Tensor, decay: float, threshold: float) -> Tensor:
    """Potentials u_t (T, ...) = decay · u_{t-1} · (1 − s_{t-1}) + x_t, s = [u > threshold]."""
    u = torch.zeros_like(currents[0])
    potentials = []
    for current in currents:
        u = decay * u * (u <= threshold) + current
        potentials.append(u)
    return torch.stack(potentials)
