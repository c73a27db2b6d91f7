"""One call of the engine: the way through the blocks, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from msr_zoo.event_blocks import Block, Neuron, Path, SpikeLayer
from msr_zoo.event_memory import Memory
from msr_zoo.kernels import native_conv
from msr_zoo.kernels.bits import unpack_bits
from msr_zoo.kernels.native_conv import Norm

__all__ = ["Call", "EngineRun"]


@dataclass(frozen=True, kw_only=True)
class EngineRun:
    """What one call gave, and what it did for that.

    `counts` are the spikes (T,) of each LIF, int64, of `neurons` neurons in all pictures together;
    `paths` tells how the convolution behind each LIF ran, as its firing rate advised: "events" adds
    up the weights of spikes, "tables" sums of four weights (narrow layers), "tiles" (AMX) and
    "onednn" are dense. Of a call taken in parts, they are those of its last part. All three are
    empty where torch ran the model. `currents` are the inputs (T, B, C, H, W) of each LIF, where
    they were kept.
    """

    logits: Tensor
    counts: Mapping[str, Tensor] = field(default_factory=dict)
    neurons: Mapping[str, int] = field(default_factory=dict)
    paths: Mapping[str, Path] = field(default_factory=dict)
    currents: Mapping[str, Tensor] = field(default_factory=dict)
    _fired: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def activity(self) -> dict[str, Tensor]:
        """Firing rates (T,) of each LIF, in float64."""
        return {name: count.double() / self.neurons[name] for name, count in self.counts.items()}

    def spikes(self, name: str) -> Tensor:
        """Spikes of one LIF, bool (T, B, C, H, W), where they were kept."""
        if not self._fired:
            raise ValueError("spikes are kept by run(x, keep=True) alone")
        inner = self._fired[name][:, :, 1:-1, 1:-1].contiguous()
        octets = inner.view(torch.uint8).view(1, -1)
        lanes = unpack_bits(octets, octets.numel() * 8).view(*inner.shape[:4], -1)
        return lanes[..., : self.currents[name].shape[2]].movedim(-1, 2)


class Call:
    """One call under way: what its parts have given so far."""

    def __init__(self, blocks: list[Block], last: Neuron, keep: bool) -> None:
        self.blocks, self.last, self.keep = blocks, last, keep
        self.pooled: list[Tensor] = []  # spikes of the last LIF over steps and pixels (B, C)
        self.counts: dict[str, Tensor] = {}
        self.neurons: dict[str, int] = {}
        self.paths: dict[str, Path] = {}
        self.currents: dict[str, Tensor] = {}
        self.fired: dict[str, Tensor] = {}

    def finish(self, logits: Tensor) -> EngineRun:
        return EngineRun(
            logits=logits,
            counts=self.counts,
            neurons=self.neurons,
            paths=self.paths,
            currents=self.currents,
            _fired=self.fired,
        )

    def run(self, stem: Tensor, norm: Norm | None, memory: Memory) -> None:
        """Run the blocks for what the stem gave, (T or 1, B, C, H, W), with its norm to follow."""
        before = native_conv.pad_lanes(stem.movedim(2, -1))
        shape = (*stem.shape[3:], stem.shape[2])
        fired = memory.spikes(shape)
        neuron = self.blocks[0].conv1.neuron
        every = self._reads_every(0)
        potential: Tensor | None = memory.potentials(shape, every, len(before))
        counts = native_conv.dense_lif(
            before,
            fired,
            norm=norm,
            decay=neuron.decay,
            threshold=neuron.threshold,
            potential=potential,
            potential_stride=every,
        )
        rate = self._note(neuron, counts, fired, potential, shape)
        nexts = [*(block.conv1.neuron for block in self.blocks[1:]), self.last]
        for index, (block, after) in enumerate(zip(self.blocks, nexts, strict=True), start=1):
            assert potential is not None
            residual = potential
            if block.shortcut:
                residual = block.shortcut(potential, every)
                memory.give(potential)
            shape = (*residual.shape[2:4], block.conv1.channels_out)
            middle = memory.spikes(shape)
            current = memory.potentials(shape) if self.keep else None
            counts = block.conv1.run(
                self._path(block.conv1, rate),
                fired,
                middle,
                block.conv2.neuron,
                potential=current,
            )
            rate = self._note(block.conv2.neuron, counts, middle, current, shape)
            memory.give(fired)
            every = self._reads_every(index)
            if after is self.last and not self.keep:
                potential = None
            elif self.keep or every > 1 or len(residual) != memory.steps:
                potential = memory.potentials(shape, every)
            else:
                potential = residual  # which the sum takes the place of
            fired = memory.spikes(shape)
            counts = block.conv2.run(
                self._path(block.conv2, rate),
                middle,
                fired,
                after,
                residual=residual,
                residual_norm=block.shortcut.norm if block.shortcut else None,
                potential=potential,
                potential_stride=every,
            )
            rate = self._note(after, counts, fired, potential, shape)
            memory.give(middle)
            if potential is not residual:
                memory.give(residual)
        height, width, channels = shape
        spikes = native_conv.count_channels(fired)[:, :channels]
        self.pooled.append(spikes.float() / (memory.steps * height * width))

    def _reads_every(self, index: int) -> int:
        """The stride of the rows and columns that anyone reads of the potentials before a block."""
        if self.keep or index == len(self.blocks):
            return 1
        return self.blocks[index].reads_every

    def _note(
        self,
        neuron: Neuron,
        counts: Tensor,
        fired: Tensor,
        current: Tensor | None,
        shape: tuple[int, int, int],
    ) -> float:
        """Add up the spikes (T,) of a layer, and give its firing rate in this part."""
        height, width, channels = shape
        steps, batch = fired.shape[:2]
        name, neurons = neuron.name, batch * height * width * channels
        self.counts[name] = self.counts[name] + counts if name in self.counts else counts
        self.neurons[name] = self.neurons.get(name, 0) + neurons
        if self.keep and current is not None:
            pictures = current[..., :channels].movedim(-1, 2)
            self.currents[name] = pictures.expand(steps, -1, -1, -1, -1)
            self.fired[name] = fired
        return sum(counts.tolist()) / (neurons * steps)

    def _path(self, layer: SpikeLayer, rate: float) -> Path:
        self.paths[layer.neuron.name] = chosen = layer.path(rate)
        return chosen
