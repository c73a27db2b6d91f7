"""The activity of an engine's calls: its counts of spikes, and what they cost in every layer."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from msr_zoo.activity import Activity, _Neurons, _Weights, record_activity
from msr_zoo.engine import EngineRun
from msr_zoo.kernels.bits import pack_bits
from msr_zoo.models.ms_resnet import MSBlock

__all__ = ["Tally"]


class Tally:
    """Turns the spikes that an `EventEngine` counts into the `Activity` of its calls.

    The figures are those that `record_activity` would give for the same spikes: what a layer costs
    follows from the shape of its input and the spikes that come in. It follows a model whose parts
    are added, removed or replaced.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._prepare()

    def _prepare(self) -> None:
        # Modules compare by identity, and those held here cannot be mistaken for later ones.
        self._parts = list(self._model.named_modules())
        # Shapes alone are asked of it, so its tensors take no memory.
        tensors = self._model.buffers(), self._model.parameters()
        meta: dict[int, Tensor] = {id(buffer): buffer.to("meta") for buffer in tensors[0]}
        meta |= {id(p): nn.Parameter(p.detach().to("meta"), False) for p in tensors[1]}
        self._shadow = copy.deepcopy(self._model, meta).eval()
        self._source = {
            f"{name}.conv{i}": f"{name}.lif{i}"
            for name, module in self._parts
            if isinstance(module, MSBlock)
            for i in (1, 2)
        }
        self._calls: dict[tuple[torch.Size, int], Activity] = {}

    def add(self, activity: Activity, shape: torch.Size, counts: Mapping[str, Tensor]) -> None:
        """Add to `activity` a call with an input of `shape`, of these spikes (T,) of every LIF."""
        if not counts:
            raise ValueError("the call has no counts of spikes, because torch ran it")
        if self._parts != list(self._model.named_modules()):
            self._prepare()
        steps = len(next(iter(counts.values())))
        call = self._calls.get((shape, steps)) or self._of(shape, steps)
        self._calls[shape, steps] = call
        for name, layer in call._neurons.items():
            mine = activity._neurons.setdefault(name, _Neurons())
            mine.counts.append(counts[name])
            mine.shapes.append(layer.shapes[0])
        for name, weights in call._weights.items():
            source = self._source.get(name)
            total = activity._weights.setdefault(name, _Weights(source is None, weights.linear))
            total.images += weights.images
            total.macs += weights.macs
            if source is not None:
                total.counts.append(counts[source])
                total.fan_outs.append(weights.fan_outs[0])

    def _of(self, shape: torch.Size, steps: int) -> Activity:
        """What a call with an input of this shape does in every layer, but for the spikes."""
        shadow = copy.copy(self._shadow)
        shadow.num_steps = steps  # type: ignore[assignment]
        with torch.inference_mode(), record_activity(shadow) as call:
            shadow(torch.empty(shape, device="meta"))
        return call

    @staticmethod
    def keep(activity: Activity, run: EngineRun) -> None:
        """Keep in `activity` the spikes and currents of a call that `add` has added."""
        for name, current in run.currents.items():
            layer = activity._neurons[name]
            layer.packed.append(pack_bits(run.spikes(name).flatten(1)))
            layer.currents.append(current)
