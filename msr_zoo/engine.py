"""Inference on the CPU that costs only the spikes: an MS-ResNet run by its events."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch import Tensor, nn

from msr_zoo.event_blocks import Neuron, Path, SpikeLayer, WeightsKind, prepare, why_not
from msr_zoo.kernels import native_conv
from msr_zoo.models.ms_resnet import MSResNet

__all__ = ["EventEngine"]

# Pictures are taken in parts whose potentials fill at most this many bytes: what one block wrote is
# then still in a cache when the next one reads it, and memory does not grow with the batch.
PART_BYTES = 32 * 2**20


class EventEngine:
    """Runs a model in evaluation mode: `engine(x)` gives the logits of `model(x)`.

    Make it after training: it does not follow changes of the model's weights. Threads may share it.
    A model other than a float32 MS-ResNet on the CPU runs through torch, with one warning.

    With `weights="int8"` the convolutions of spikes have weights of eight bits, one scale an output
    channel, and exact integer sums; the others stay in float32.
    """

    def __init__(self, model: nn.Module, *, weights: WeightsKind = "float32") -> None:
        if weights not in get_args(WeightsKind):
            raise ValueError(f"weights must be one of {get_args(WeightsKind)}, got {weights!r}")
        self.model = model
        self._rates: dict[str, Tensor] = {}
        self._paths: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._memory: dict[tuple[int, ...], list[_Memory]] = {}
        if reason := why_not(model):
            warnings.warn(f"the model runs through torch, because {reason}", stacklevel=2)
            return
        assert isinstance(model, MSResNet)
        self._blocks = prepare(model, weights)
        self._last = Neuron.of("lif", model.lif)

    @property
    def activity(self) -> dict[str, Tensor]:
        """Firing rates (T,) of each LIF in the latest call; empty where torch ran the model."""
        return self._rates

    @property
    def paths(self) -> dict[str, Path]:
        """How the convolution behind each LIF ran in the latest call, as its firing rate advised.

        "events" adds up the weights of spikes; "tiles" (AMX) and "onednn" are dense.
        """
        return self._paths

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of pictures (B, C, H, W) or event frames (B, T, C, H, W)."""
        # The kernels read and write float32, whatever autocast would make of the stem's output.
        with torch.autocast("cpu", enabled=False):
            return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        model = self.model
        if model.training:
            raise ValueError("the engine needs a model in evaluation mode: call model.eval()")
        if not hasattr(self, "_blocks") or x.numel() == 0 or x.dtype != torch.float32:
            logits: Tensor = model(x)
            return logits
        assert isinstance(model, MSResNet)
        rates: dict[str, Tensor] = {}
        paths: dict[str, Path] = {}
        pooled = []
        for part in x.split(self._pictures_at_once(model, x)):
            if part.dim() == 4:
                # The layout of potentials, so that the stem's need not be turned round.
                part = part.contiguous(memory_format=torch.channels_last)
            stem, steps = model._before_blocks(part)
            with self._borrow(steps, stem) as memory:
                pooled.append(self._run(stem, memory, rates, paths))
        self._rates = {name: rate / len(x) for name, rate in rates.items()}
        self._paths = paths
        out: Tensor = model.fc(torch.cat(pooled))
        return out

    @staticmethod
    def _pictures_at_once(model: MSResNet, x: Tensor) -> int:
        steps = x.shape[1] if x.dim() == 5 else model.num_steps
        stage = model.feature_info[1]
        pixels = x.shape[-1] * x.shape[-2] // int(str(stage["reduction"])) ** 2
        return max(1, PART_BYTES // max(1, 4 * steps * pixels * int(str(stage["num_chs"]))))

    @contextmanager
    def _borrow(self, steps: int, stem: Tensor) -> Iterator["_Memory"]:
        """Buffers for this shape of input, kept for the next call; one set a thread at work."""
        with self._lock:
            idle = self._memory.setdefault((steps, *stem.shape), [])
            memory = idle.pop() if idle else _Memory(steps, stem.shape[1])
        try:
            yield memory
        finally:
            memory.release()
            with self._lock:
                idle.append(memory)

    def _run(
        self, stem: Tensor, memory: "_Memory", rates: dict[str, Tensor], paths: dict[str, Path]
    ) -> Tensor:
        """Spikes of the last LIF averaged over steps and pixels (B, C); rates are added up."""

        def note(neuron: Neuron, counts: Tensor, shape: tuple[int, int, int]) -> float:
            height, width, channels = shape
            rate = counts / (height * width * channels)
            rates[neuron.name] = rates.get(neuron.name, torch.zeros(())) + rate
            return float(rate.mean()) / memory.batch

        def path(layer: SpikeLayer, rate: float) -> Path:
            paths[layer.neuron.name] = chosen = layer.path(rate)
            return chosen

        potential = native_conv.pad_lanes(stem.movedim(2, -1))
        shape = (*stem.shape[3:], stem.shape[2])
        fired = memory.spikes(shape)
        neuron = self._blocks[0].conv1.neuron
        counts = native_conv.dense_lif(
            potential, fired, decay=neuron.decay, threshold=neuron.threshold
        )
        rate = note(neuron, counts, shape)
        nexts = [*(block.conv1.neuron for block in self._blocks[1:]), self._last]
        for block, after in zip(self._blocks, nexts, strict=True):
            residual = block.shortcut(potential) if block.shortcut else potential
            shape = (*residual.shape[2:4], block.conv1.channels_out)
            middle = memory.spikes(shape)
            counts = block.conv1.run(path(block.conv1, rate), fired, middle, block.conv2.neuron)
            rate = note(block.conv2.neuron, counts, shape)
            memory.give(fired)
            # The sum takes the place of the shortcut, unless that is one step for all.
            constant = residual.shape[0] != memory.steps
            potential = memory.potentials(shape) if constant else residual
            fired = memory.spikes(shape)
            counts = block.conv2.run(
                path(block.conv2, rate),
                middle,
                fired,
                after,
                residual=residual,
                residual_norm=block.shortcut.norm if block.shortcut else None,
                potential=None if after is self._last else potential,
            )
            rate = note(after, counts, shape)
            memory.give(middle)
        height, width, channels = shape
        spikes = native_conv.count_channels(fired)[:, :channels]
        return spikes / (memory.steps * height * width)


# What made a buffer, for which sizes, and the buffer.
_Buffer = tuple[Callable[..., Tensor], tuple[int, ...], Tensor]


class _Memory:
    """The buffers of a call; those given back serve again wherever the shape is the same."""

    def __init__(self, steps: int, batch: int) -> None:
        self.steps, self.batch = steps, batch
        self._all: list[_Buffer] = []
        self._idle: list[_Buffer] = []

    def spikes(self, shape: tuple[int, int, int]) -> Tensor:
        # The border is silent from the start, and no kernel writes there.
        return self._take(native_conv.silent, self.steps, self.batch, *shape)

    def potentials(self, shape: tuple[int, int, int]) -> Tensor:
        lanes = native_conv.lanes_of(shape[2])
        return self._take(torch.empty, self.steps, self.batch, *shape[:2], lanes)

    def _take(self, make: Callable[..., Tensor], *size: int) -> Tensor:
        for index, (made_by, made_for, _) in enumerate(self._idle):
            if made_by is make and made_for == size:
                return self._idle.pop(index)[2]
        self._all.append((make, size, make(*size)))
        return self._all[-1][2]

    def give(self, buffer: Tensor) -> None:
        self._idle += [entry for entry in self._all if entry[2] is buffer]

    def release(self) -> None:
        self._idle = list(self._all)
