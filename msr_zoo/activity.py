"""Measuring a spiking network: firing rates, synaptic operations, energy; and its spikes, kept."""

import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msr_zoo.kernels.bits import pack_bits, unpack_bits
from msr_zoo.neurons import LIF

__all__ = ["Activity", "Operations", "record_activity"]

# Horowitz, "Computing's energy problem", ISSCC 2014: 45 nm, 32-bit floating point.
JOULES_PER_MAC = 4.6e-12
JOULES_PER_AC = 0.9e-12


@dataclass(frozen=True)
class Operations:
    """Synaptic operations for one picture.

    `ac` are accumulations of a weight because a spike came, `mac` multiplications of real-valued
    inputs. `twin_mac` is what the same layer of a non-spiking network of one step multiplies.
    """

    ac: float
    mac: float
    twin_mac: float

    @property
    def joules(self) -> float:
        return JOULES_PER_MAC * self.mac + JOULES_PER_AC * self.ac

    @property
    def twin_joules(self) -> float:
        return JOULES_PER_MAC * self.twin_mac


class _Neurons:
    """What one LIF layer did: an element a call."""

    def __init__(self) -> None:
        self.counts: list[Tensor] = []  # spikes at each step (T,)
        self.shapes: list[torch.Size] = []  # (T, B, ...)
        self.packed: list[Tensor] = []
        self.currents: list[Tensor] = []

    @property
    def pictures(self) -> int:
        return sum(shape[1] for shape in self.shapes)

    @property
    def neurons(self) -> float:
        return sum(shape[1:].numel() for shape in self.shapes) / self.pictures

    def totals(self) -> Tensor:
        """Spikes, and the neurons that could have fired, at each step of all calls (2, T)."""
        steps = [shape[0] for shape in self.shapes]
        totals = torch.zeros(2, max(steps), dtype=torch.float64)
        counts = torch.split(torch.cat(self.counts).cpu().double(), steps)
        for count, shape in zip(counts, self.shapes, strict=True):
            totals[0, : len(count)] += count
            totals[1, : len(count)] += shape[1:].numel()
        return totals


class _Weights:
    """What one convolution or linear layer did."""

    def __init__(self, real: bool, linear: bool) -> None:
        self.real = real  # sees no spikes, whatever the values of its inputs
        self.linear = linear
        self.images = 0  # inputs that it was applied to: up to T for a picture
        self.macs = 0  # with every input multiplied
        self.counts: list[Tensor] = []  # spikes in the inputs of a call, where they may be spikes
        self.fan_outs: list[float] = []  # MACs an input element
        self.whole: list[Tensor] = []  # whether the inputs looked at are whole numbers

    def operations(self, pictures: int) -> Operations:
        twin = self.macs / self.images
        if self.counts and all(bool(whole) for whole in self.whole):
            calls = zip(self.counts, self.fan_outs, strict=True)
            spikes = sum(float(count.double().sum()) * fan_out for count, fan_out in calls)
            return Operations(spikes / pictures, 0.0, twin)
        return Operations(0.0, twin if self.linear else self.macs / pictures, twin)


class Activity:
    """What `record_activity` measured: means over all pictures that passed while it was on."""

    def __init__(self) -> None:
        self._neurons: dict[str, _Neurons] = {}
        self._weights: dict[str, _Weights] = {}
        self._fired: tuple[weakref.ref[Tensor], Tensor] | None = None

    def extend(self, other: "Activity") -> None:
        """Add the calls of the same model that `other` has measured."""
        for name, layer in other._neurons.items():
            mine = self._neurons.setdefault(name, _Neurons())
            # In one place and one type, whatever ran the other calls.
            mine.counts += [count.cpu().double() for count in layer.counts]
            mine.shapes += layer.shapes
            mine.packed += layer.packed
            mine.currents += layer.currents
        for name, weights in other._weights.items():
            total = self._weights.setdefault(name, _Weights(weights.real, weights.linear))
            total.images += weights.images
            total.macs += weights.macs
            total.counts += weights.counts
            total.fan_outs += weights.fan_outs
            total.whole += weights.whole

    @property
    def pictures(self) -> int:
        """Pictures or recordings that passed."""
        if self._neurons:
            return next(iter(self._neurons.values())).pictures
        return next(iter(self._weights.values())).images if self._weights else 0

    @property
    def neurons(self) -> dict[str, float]:
        """Number of neurons by the name of the LIF module."""
        return {name: layer.neurons for name, layer in self._neurons.items()}

    @property
    def rates(self) -> dict[str, Tensor]:
        """Spikes a neuron at each step (T,), by the name of the LIF module."""
        totals = {name: layer.totals() for name, layer in self._neurons.items()}
        return {name: spikes / sites for name, (spikes, sites) in totals.items()}

    @property
    def stage_rates(self) -> dict[str, Tensor]:
        """Like `rates`, all neurons of a stage together: "layer1" holds layer1.0.lif1 and so on."""
        stages: dict[str, Tensor] = {}
        for name, layer in self._neurons.items():
            stage = re.sub(r"\.\d+\..*", "", name)
            stages[stage] = stages.get(stage, 0) + layer.totals()
        return {stage: spikes / sites for stage, (spikes, sites) in stages.items()}

    @property
    def firing_rate(self) -> float:
        """Spikes a neuron a step, over all layers; 0 for a network without spiking neurons."""
        totals = [layer.totals().sum(1) for layer in self._neurons.values()]
        spikes, sites = torch.stack(totals).sum(0).tolist() if totals else (0.0, 1.0)
        return float(spikes / sites)

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes for one picture, over all steps and layers, divided by the number of neurons."""
        layers = self._neurons.values()
        neurons = sum(layer.neurons for layer in layers)
        spikes = sum(float(layer.totals()[0].sum()) / layer.pictures for layer in layers)
        return spikes / neurons if neurons else 0.0

    @property
    def operations(self) -> dict[str, Operations]:
        """Synaptic operations for one picture, by the name of the convolution or linear layer.

        A layer that sees spikes accumulates: AC = rate of its input · T · MAC of the layer; a spike
        count of n (SEW-ResNet adds spikes) is n accumulations. A layer that sees real values
        multiplies as often as it is computed: the stem once for a still picture and T times for
        events, a shortcut of potentials once while these are constant in time and T times after.
        The linear layer reads the mean over all steps: its MACs count once.

        MACs are output elements · input channels of a group · taps, those on padding included.
        Normalisation (folded into the weights in hardware), the additions of shortcuts and the
        neurons' own updates are left out, as in Hu et al. (TNNLS 2024).
        """
        if not self.pictures:
            raise ValueError("no picture has passed while the activity was recorded")
        return {name: layer.operations(self.pictures) for name, layer in self._weights.items()}

    @property
    def total(self) -> Operations:
        """Synaptic operations of all layers for one picture; its `joules` are the energy."""
        layers = self.operations.values()
        return Operations(
            ac=sum(layer.ac for layer in layers),
            mac=sum(layer.mac for layer in layers),
            twin_mac=sum(layer.twin_mac for layer in layers),
        )

    def spikes(self, name: str) -> Tensor:
        """Spikes of one LIF layer, bool (T, B, ...), which `keep_spikes=True` has kept."""
        layer = self._neurons[name]
        if not layer.packed:
            raise ValueError("spikes are kept by record_activity(model, keep_spikes=True) alone")
        _check_steps(shape[0] for shape in layer.shapes)
        calls = zip(layer.packed, layer.shapes, strict=True)
        return torch.cat([unpack_bits(b, shape[1:].numel()).view(shape) for b, shape in calls], 1)

    def currents(self, name: str) -> Tensor:
        """Input of one LIF layer (T, B, ...), which `keep_currents=True` has kept.

        At the first LIF of an MS-ResNet block these are the potentials that run along its shortcut.
        """
        if not (currents := self._neurons[name].currents):
            raise ValueError(
                "currents are kept by record_activity(model, keep_currents=True) alone"
            )
        _check_steps(len(current) for current in currents)
        return torch.cat(currents, 1)

    def as_dict(self) -> dict[str, Any]:
        """What was measured, for JSON; counts and joules are for one picture."""
        total = self.total
        return {
            "pictures": self.pictures,
            "spikes_per_neuron": self.spikes_per_neuron,
            "firing_rate": self.firing_rate,
            "rates": {name: rates.tolist() for name, rates in self.rates.items()},
            "stage_rates": {name: rates.tolist() for name, rates in self.stage_rates.items()},
            "synaptic_operations": {"ac": total.ac, "mac": total.mac, "twin_mac": total.twin_mac},
            "energy_joules": total.joules,
            "twin_energy_joules": total.twin_joules,
        }

    def _after_lif(
        self, name: str, keep_spikes: bool, keep_currents: bool, current: Tensor, spikes: Tensor
    ) -> None:
        layer = self._neurons.setdefault(name, _Neurons())
        count = _sum_from(1, spikes)
        layer.counts.append(count)
        layer.shapes.append(spikes.shape)
        # A weak reference: only a layer that runs while these spikes exist can have them as input.
        self._fired = weakref.ref(spikes), count
        if keep_spikes:
            layer.packed.append(pack_bits((spikes > 0).flatten(1)))
        if keep_currents:
            layer.currents.append(current.detach())

    def _after_weights(
        self, name: str, module: nn.Conv2d | nn.Linear, x: Tensor, y: Tensor
    ) -> None:
        linear = isinstance(module, nn.Linear)
        layer = self._weights.setdefault(name, _Weights(self._fired is None or linear, linear))
        macs = y.numel() * (module.weight.numel() // len(module.weight))
        layer.images += len(x)
        layer.macs += macs
        if layer.real:
            return
        layer.fan_outs.append(macs / x.numel())
        fired, count = self._fired or (None, None)
        spikes = fired() if fired else None
        if count is None or spikes is None or not _same(spikes, x):
            count = _sum_from(0, x)
            first = x[:1].detach()
            layer.whole.append((first == first.clamp(min=0).round()).all())
        layer.counts.append(count)


def _check_steps(steps: Iterable[int]) -> None:
    if len(set(steps)) > 1:
        raise ValueError("calls of different numbers of steps cannot be put together")


def _same(spikes: Tensor, folded: Tensor) -> bool:
    return (spikes.data_ptr(), spikes.numel()) == (folded.data_ptr(), folded.numel())


def _sum_from(first: int, x: Tensor) -> Tensor:
    """The sum over dimension `first` and all behind it."""
    x = x.detach()
    # torch sums one dimension ten times faster than four; in another layout this would copy.
    if x.is_contiguous():
        x = x.flatten(first)
    # A half-precision sum of ones would stop counting at 256 or 2048.
    dtype = torch.float32 if x.dtype.itemsize < 4 else None
    return x.sum(list(range(first, x.dim())), dtype=dtype)


@contextmanager
def record_activity(
    model: nn.Module, *, keep_spikes: bool = False, keep_currents: bool = False
) -> Iterator[Activity]:
    """Measure what passes through a model inside the `with` block; the model's output is the same.

    Every `LIF`, `Conv2d` and `Linear` below `model` is watched, in calls from the current thread.
    `keep_spikes` keeps all spikes, a bit each, and `keep_currents` the inputs of all neurons.
    """
    activity = Activity()

    def hook(measure: Callable[..., None], *args: Any) -> Callable[..., None]:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # Threads that share a model call each other's hooks, and a backward pass calls them
            # where gradient checkpointing computes once more what has been counted.
            counts = threading.get_ident() == thread and torch._C._current_graph_task_id() == -1
            if counts and output.numel():  # of no pictures there are no means
                measure(*args, inputs[0], output)

        # Other threads may run the model without it (event_fit.py).
        after.__dict__["only_thread"] = thread
        return after

    thread = threading.get_ident()
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, LIF):
                after = hook(activity._after_lif, name, keep_spikes, keep_currents)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                after = hook(activity._after_weights, name, module)
            else:
                continue
            hooks.callback(module.register_forward_hook(after).remove)
        yield activity
