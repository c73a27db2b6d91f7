"""Inference on the CPU that costs only the spikes: an MS-ResNet run by its events."""

import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from msr_zoo.event_blocks import Block, Neuron, Path, WeightsKind, prepare, split_stem
from msr_zoo.event_call import Call, EngineRun
from msr_zoo.event_fit import Stamp, hooked, unfit
from msr_zoo.event_memory import Memory, Shelf
from msr_zoo.kernels.native_conv import Norm
from msr_zoo.models.ms_resnet import MSResNet

__all__ = ["EngineRun", "EventEngine"]

# Pictures are taken in parts: of as many as have potentials of this many bytes, so that what one
# block wrote is still in a cache when the next one reads it; of a quarter of them if that is more.
PART_BYTES = 6 * 2**20
# Memory does not grow with the batch beyond that.
MOST_BYTES = 32 * 2**20


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A model as it was; `unfit` says why torch runs it, and there are no blocks then."""

    stamp: Stamp | None  # None: no change of the model would matter
    unfit: str | None
    blocks: list[Block]
    stem: nn.Module | None  # without its norm, where that is left to the first LIF
    stem_norm: Norm | None
    memory: Shelf

    @property
    def reason(self) -> str | None:
        """Why torch runs it now, in this thread: hooks come and go without another preparation."""
        return self.unfit or (hooked(self.stamp.modules) if self.stamp else None)


class EventEngine:
    """Runs a model in evaluation mode: `engine(x)` gives the logits of `model(x)`.

    It follows the model: weights that changed are prepared again at the next call, which takes as
    long as making the engine, unless they were written through `.data` or numpy or made under
    `inference_mode`, which torch keeps no trace of: make a new engine then. Threads may share it.
    A model other than a float32 MS-ResNet on the CPU, or one with hooks, runs through torch, with
    one warning for each reason.

    With `weights="int8"` the convolutions of spikes have weights of eight bits, one scale an output
    channel, and exact integer sums; the others stay in float32.

    With `frees_weights` the model gives up the weights of those convolutions (their parameters go
    to the meta device), which otherwise lie there twice. Only this engine can run the model then,
    as it is, or after `load_state_dict(state, assign=True)` with all of new weights; a RuntimeError
    says so of everything else. So it does if the making is interrupted halfway. Raises ValueError
    where layers share weights or are no SpikeConv2d, before any is given up.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weights: WeightsKind = "float32",
        frees_weights: bool = False,
    ) -> None:
        if weights not in get_args(WeightsKind):
            raise ValueError(f"weights must be one of {get_args(WeightsKind)}, got {weights!r}")
        self.model = model
        self.weights: WeightsKind = weights
        self.frees_weights = frees_weights
        self._freed = False
        self._latest: EngineRun | None = None
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._prepared = self._prepare()
        self._warn(self._prepared.reason)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._freed:
            raise TypeError("an engine whose model has given up its weights cannot be copied")
        # A copy prepares its own model, which packed weights and locks need not travel for.
        make = partial(type(self), weights=self.weights, frees_weights=self.frees_weights)
        return make, (self.model,)

    @property
    def activity(self) -> dict[str, Tensor]:
        """Firing rates (T,) of each LIF in the latest call, whichever thread made it.

        `run` gives those of one call together with its logits.
        """
        return self._latest.activity if self._latest else {}

    @property
    def paths(self) -> Mapping[str, Path]:
        """How the convolution behind each LIF ran in the latest call, see `EngineRun`."""
        return self._latest.paths if self._latest else {}

    @property
    def why_not(self) -> str | None:
        """The reason for which torch would run the model as it is now, or None."""
        return self._ready().reason

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of pictures (B, C, H, W) or event frames (B, T, C, H, W)."""
        return self.run(x).logits

    @torch.inference_mode()
    def run(self, x: Tensor, *, steps: int | None = None, keep: bool = False) -> EngineRun:
        """The logits of one call together with its spikes' counts and the paths taken.

        Pictures are shown for `steps` instead of the model's own number of them, and with `keep`
        the spikes and currents of all layers are kept, for a model that the engine runs itself.
        """
        run = self._run(x, steps, keep)
        # What was kept is the caller's alone.
        self._latest = replace(run, currents={}, _fired={}) if keep else run
        return run

    def _run(self, x: Tensor, shown: int | None, keep: bool) -> EngineRun:
        model = self.model
        if model.training:
            raise ValueError("the engine needs a model in evaluation mode: call model.eval()")
        if shown is not None and (shown < 1 or x.dim() == 5):
            raise ValueError(
                f"steps must be at least 1, and are of pictures alone, got {shown} for "
                f"{tuple(x.shape)}"
            )
        prepared = self._ready()
        self._warn(prepared.reason)
        if reason := prepared.reason or _unusual(x):
            if any(parameter.is_meta for parameter in model.parameters()):
                raise RuntimeError(
                    f"torch would have to run this call ({reason}), but the model "
                    "has given up its weights to an engine"
                )
            if shown or keep:
                raise ValueError(f"torch runs this call: {reason}")
            return EngineRun(logits=model(x))
        # The kernels read and write float32, whatever autocast would make of the stem's output.
        with torch.autocast("cpu", enabled=False):
            return self._by_events(prepared, x, shown, keep)

    def _by_events(
        self, prepared: _Prepared, x: Tensor, shown: int | None, keep: bool
    ) -> EngineRun:
        model = self.model
        assert isinstance(model, MSResNet)
        call = Call(prepared.blocks, Neuron.of("lif", model.lif), keep)
        for part in x.split(len(x) if keep else _pictures_at_once(model, x, shown)):
            if part.dim() == 4:
                # The layout of potentials, so that the stem's need not be turned round.
                part = part.contiguous(memory_format=torch.channels_last)
            stem, steps = model._before_blocks(part, prepared.stem)
            steps = shown or steps
            if keep:
                call.run(stem, prepared.stem_norm, Memory(steps, len(part), shared=False))
                continue
            with prepared.memory.borrow(steps, stem.shape) as memory:
                call.run(stem, prepared.stem_norm, memory)
        return call.finish(model.fc(torch.cat(call.pooled)))

    def _ready(self) -> _Prepared:
        if (stamp := self._prepared.stamp) and not stamp.holds():
            with self._lock:
                if self._prepared.stamp is stamp:
                    changed = self._prepare()
                    if self._freed and changed.unfit:
                        # What was packed is all there is: a change that is undone finds it again.
                        return changed
                    self._prepared = changed
        return self._prepared

    def _prepare(self) -> _Prepared:
        # First, so that what changes meanwhile is noticed at the next call; of a model that gives
        # up weights afterwards, because a stamp holds them.
        stamp = Stamp(self.model) if type(self.model) is MSResNet else None
        reason = unfit(self.model)
        blocks, stem, norm = [], None, None
        if reason is None:
            assert isinstance(self.model, MSResNet)
            if self.frees_weights:
                stamp = None
            blocks = prepare(self.model, self.weights, frees=self.frees_weights)
            stem, norm = split_stem(self.model)
            if self.frees_weights:
                self._freed, stamp = True, Stamp(self.model)
        return _Prepared(
            stamp=stamp, unfit=reason, blocks=blocks, stem=stem, stem_norm=norm, memory=Shelf()
        )

    def _warn(self, reason: str | None) -> None:
        if reason and reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(f"the model runs through torch, because {reason}", stacklevel=3)


def _unusual(x: Tensor) -> str | None:
    """Why the kernels do not take an input, or None."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return f"the input is {x.dtype} on {x.device.type}, not float32 on the CPU"
    if x.dim() not in (4, 5) or not x.numel():
        return f"the input is {tuple(x.shape)}, not (B, C, H, W) or (B, T, C, H, W) with values"
    return None


def _pictures_at_once(model: MSResNet, x: Tensor, shown: int | None) -> int:
    steps = x.shape[1] if x.dim() == 5 else shown or model.num_steps
    stage = model.feature_info[1]
    pixels = x.shape[-1] * x.shape[-2] // int(str(stage["reduction"])) ** 2
    each = max(1, 4 * steps * pixels * int(str(stage["num_chs"])))
    most = max(1, min(max(PART_BYTES // each, len(x) // 4), MOST_BYTES // each))
    parts = -(-len(x) // most)
    return -(-len(x) // parts)  # of one size, as far as they can be
