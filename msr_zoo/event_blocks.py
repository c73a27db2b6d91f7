"""The blocks of an MS-ResNet made ready for the engine: packed weights and folded norms."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_zoo.event_memory import give_back
from msr_zoo.kernels import native, native_conv, packing
from msr_zoo.kernels.native_conv import Norm
from msr_zoo.kernels.packing import Packed
from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.models.ms_resnet import MSBlock, MSResNet
from msr_zoo.neurons import LIF

WeightsKind = Literal["float32", "int8"]
Path = Literal["events", "tables", "tiles", "onednn"]
# The firing rates above which a dense convolution is the faster one. On AMX tiles of weights, by
# the lanes up to which they hold (benchmarks/engine_rate.py), because narrow layers spend longer on
# finding spikes than on products.
TILES_ABOVE = {
    "float32": {32: 0.0, 64: 0.01, 4096: 0.015},
    "int8": {32: 0.0, 64: 0.005, 4096: 0.01},
}
# Elsewhere, in layers of at most 16 channels, tables of four inputs; and oneDNN in float32, which
# no rate makes faster than adding bytes, nor than the portable kernels where oneDNN has SSE 4.1 too
# (benchmarks/engine_paths.py; not measured on Arm).
TABLES_ABOVE = {"float32": 0.06, "int8": 0.02}
ONEDNN_ABOVE = {"portable": 1.0, "avx2": 0.8, "avx512": 0.85, "avx512vbmi2": 0.9}
# Of trained networks, for a layer that can go one way alone.
USUAL_RATE = 0.15


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """A LIF layer: its name in the model and its constants."""

    name: str
    decay: float
    threshold: float

    @classmethod
    def of(cls, name: str, lif: nn.Module) -> "Neuron":
        assert isinstance(lif, LIF)
        return cls(name=name, decay=lif.decay, threshold=lif.threshold)


class SpikeLayer:
    """LIF → 3×3 convolution → batch norm of a block, and the ways to run it on bits.

    Weights are packed for a way when it is first taken, because most layers take one for ever, and
    memory counts. A layer that `frees` its convolution's weights packs them at once, for the one
    way that it will go.
    """

    def __init__(
        self,
        neuron: Neuron,
        conv: nn.Conv2d,
        bn: nn.BatchNorm2d,
        weights: WeightsKind,
        *,
        frees: bool = False,
    ) -> None:
        self.neuron = neuron
        self.stride = int(conv.stride[0])
        self.channels_out, self.channels_in = conv.weight.shape[:2]
        self.kind = weights
        self.weight = conv.weight.detach()
        self.norm = norm_of(bn)
        if weights == "int8":
            self.norm = _in_units(self.norm, packing.unit_of(self.weight))
        self._only: Path | None = None
        if frees:
            self._only = self.path(USUAL_RATE)
            self._packed(self._only)
            conv.weight = nn.Parameter(conv.weight.detach().to("meta"), conv.weight.requires_grad)
            self.weight = conv.weight.detach()
            give_back()

    def _values(self, weight: Tensor) -> Tensor:
        return packing.quantise(weight)[0] if self.kind == "int8" else weight

    @cached_property
    def _rows(self) -> Packed:
        return packing.in_parts(self.weight, lambda part: packing.pack_weight(self._values(part)))

    @cached_property
    def _tables(self) -> Packed:
        return packing.pack_tables(self._values(self.weight))

    @cached_property
    def _tiles(self) -> tuple[Packed, Norm]:
        if self.kind == "int8":
            packed = packing.in_parts(
                self.weight, lambda part: packing.pack_tiles(self._values(part))
            )
            return packed, self.norm
        packed, unit = packing.pack_fixed_point(self.weight)
        return packed, _in_units(self.norm, unit)

    @property
    def narrow(self) -> bool:
        """Whether tables fit."""
        return max(self.channels_in, self.channels_out) <= packing.NARROW

    def path(self, rate: float) -> Path:
        """The fastest way at a firing rate."""
        if self._only:
            return self._only
        isa = native.isa()
        if isa == "amx":
            lanes_in = native_conv.lanes_of(self.channels_in)
            above = next(r for most, r in TILES_ABOVE[self.kind].items() if lanes_in <= most)
            return "tiles" if rate > above else "events"
        if self.narrow and rate > TABLES_ABOVE[self.kind]:
            return "tables"
        return "onednn" if self.kind == "float32" and rate > ONEDNN_ABOVE[isa] else "events"

    def _packed(self, path: Path) -> tuple[Packed, Norm]:
        """The weights for a way, and the norm of its sums."""
        if path == "tiles":
            return self._tiles
        return self._tables if path == "tables" else self._rows, self.norm

    def run(
        self,
        path: Path,
        spikes: Tensor,
        fired: Tensor,
        then: Neuron,
        *,
        residual: Tensor | None = None,
        residual_norm: Norm | None = None,
        potential: Tensor | None = None,
        potential_stride: int = 1,
    ) -> Tensor:
        """Write to `fired` the spikes of `then`, the next LIF; give their number a step.

        See `native_conv.conv_lif` for the rest.
        """
        after: dict[str, Any] = {
            "norm": self.norm,
            "decay": then.decay,
            "threshold": then.threshold,
            "residual": residual,
            "residual_norm": residual_norm,
            "potential": potential,
            "potential_stride": potential_stride,
        }
        if path == "onednn":
            return native_conv.dense_lif(self._dense(spikes, fired), fired, **after)
        packed, after["norm"] = self._packed(path)
        lanes_in = native_conv.lanes_of(self.channels_in)
        return native_conv.conv_lif(
            spikes, packed, fired, lanes_in=lanes_in, stride=self.stride, **after
        )

    def _dense(self, spikes: Tensor, fired: Tensor) -> Tensor:
        """The convolution by oneDNN, (T, B, H, W, lanes); sums of int8 are exact in float32."""
        steps, batch, height, width = fired.shape[:4]
        lanes = native_conv.lanes_of(self.channels_out)
        out = torch.empty((steps, batch, height - 2, width - 2, lanes), dtype=torch.float32)
        weight = self._values(self.weight).float()
        for t in range(steps):
            # One step at a time, because floats take 32 times the room of bits.
            flat = spikes[t].view(torch.uint8).view(1, -1)
            pictures = native.unpack(flat, flat.numel() * 8, torch.float32)
            pictures = pictures.view(*spikes.shape[1:4], -1)[..., : self.channels_in]
            # The silent border is the padding.
            convolved = F.conv2d(pictures.movedim(-1, 1), weight, None, self.stride)
            out[t] = native_conv.pad_lanes(convolved.movedim(1, -1))
        return out


class Shortcut:
    """The convolution of potentials on a shortcut; its batch norm is left to the addition."""

    def __init__(self, layers: nn.Sequential) -> None:
        *before, conv, bn = layers
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(bn, nn.BatchNorm2d)
        self.pool = before[0] if before else None
        self.stride = int(conv.stride[0])
        self.norm = norm_of(bn)
        weight = native_conv.pad_lanes(conv.weight.detach().flatten(1))  # (O, lanes_in)
        self.weight = native_conv.pad_lanes(weight.T)

    @property
    def reads_every(self) -> int:
        """The stride of the pixels that it reads."""
        return 1 if self.pool is not None else self.stride

    def __call__(self, potential: Tensor, stride: int = 1) -> Tensor:
        """(T, B, H, W, lanes) in and out; only every `stride`-th row and column may have come."""
        pictures = potential.flatten(0, 1)
        if self.pool is not None:
            pictures = self.pool(pictures.movedim(-1, 1)).movedim(1, -1)
        # A product of matrices is twice as fast as a strided 1 x 1 convolution.
        step = self.stride // stride
        pictures = pictures[:, ::step, ::step]
        convolved = pictures.reshape(-1, len(self.weight)) @ self.weight
        return convolved.view(*potential.shape[:2], *pictures.shape[1:3], -1)


@dataclass(frozen=True, kw_only=True)
class Block:
    conv1: SpikeLayer
    conv2: SpikeLayer
    shortcut: Shortcut | None

    @property
    def reads_every(self) -> int:
        """The stride of the pixels whose potentials the shortcut reads."""
        return self.shortcut.reads_every if self.shortcut else 1


def norm_of(bn: nn.BatchNorm2d) -> Norm:
    """Batch norm's own arithmetic in evaluation: x * scale + shift."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = (bn.running_var + bn.eps).rsqrt() * bn.weight.detach()
    shift = bn.bias.detach() - bn.running_mean * scale
    return Norm(scale=native_conv.pad_lanes(scale), shift=native_conv.pad_lanes(shift))


def split_stem(model: MSResNet) -> tuple[nn.Module, Norm | None]:
    """The stem without its last batch norm, and that norm; or all of it and None."""
    if type(model.stem) is not nn.Sequential or len(model.stem) < 2:
        return model.stem, None
    *convs, bn = model.stem
    if type(bn) is not nn.BatchNorm2d or not bn.affine or bn.running_mean is None:
        return model.stem, None
    if bn.num_features != getattr(convs[-1], "out_channels", None):
        return model.stem, None
    return nn.Sequential(*convs), norm_of(bn)


def _in_units(norm: Norm, unit: Tensor) -> Norm:
    """The norm of sums that count units of each channel's weights."""
    return replace(norm, scale=norm.scale * native_conv.pad_lanes(unit))


def prepare(model: MSResNet, weights: WeightsKind, *, frees: bool = False) -> list[Block]:
    """All blocks of a model that `event_fit.why_not` has no objection to.

    With `frees` the convolutions of spikes give up their weights, one layer after another; raises
    ValueError where two share them, or where torch would read what is not there.
    """
    if frees:
        _check_own_weights(model)
    blocks = []
    for stage in model.stages:
        for index, block in enumerate(model.get_submodule(stage).children()):
            assert isinstance(block, MSBlock)
            name = f"{stage}.{index}"
            lif1, lif2 = (
                Neuron.of(f"{name}.lif1", block.lif1),
                Neuron.of(f"{name}.lif2", block.lif2),
            )
            shortcut = block.shortcut
            blocks.append(
                Block(
                    conv1=SpikeLayer(lif1, block.conv1, block.bn1, weights, frees=frees),
                    conv2=SpikeLayer(lif2, block.conv2, block.bn2, weights, frees=frees),
                    shortcut=Shortcut(shortcut) if isinstance(shortcut, nn.Sequential) else None,
                )
            )
    return blocks


def _check_own_weights(model: MSResNet) -> None:
    blocks = [block for block in model.modules() if isinstance(block, MSBlock)]
    convs = [conv for block in blocks for conv in (block.conv1, block.conv2)]
    if any(type(conv) is not SpikeConv2d for conv in convs):
        raise ValueError("only a SpikeConv2d can give up its weights")
    owned = [conv.weight for conv in convs]
    everywhere = [p for _, p in model.named_parameters(remove_duplicate=False)]
    for weight in owned:
        if sum(p.data_ptr() == weight.data_ptr() for p in everywhere) > 1:
            raise ValueError("weights that two layers share cannot be freed")
