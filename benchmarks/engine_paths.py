"""From which firing rate on a way of convolving is the faster one, by instruction set and width.

    python -m benchmarks.engine_paths

One thread, in the processor's time. Each instruction set has a process of its own, in which oneDNN
may use no more than that either; the thresholds of msr_zoo/event_blocks.py come from here.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from torch import nn

from benchmarks import timing
from msr_zoo.bench.measure import interleaved, machine
from msr_zoo.event_blocks import Neuron, Path, SpikeLayer, WeightsKind
from msr_zoo.kernels import native, native_conv, packing

# What oneDNN and torch are told to use at most, beside kernels of each instruction set.
LIMITS = {
    "portable": ("SSE41", "default"),
    "avx2": ("AVX2", "avx2"),
    "avx512": ("AVX512_CORE", "avx512"),
    "avx512vbmi2": ("AVX512_CORE", "avx512"),
}
LAYERS = {16: (32, 4), 32: (16, 4), 64: (56, 1), 128: (28, 1), 256: (14, 1), 512: (7, 1)}
RATES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9)
MIDDLE = 0.3  # at which ways are timed that hardly depend on it
STEPS = 6
KINDS: tuple[WeightsKind, ...] = ("float32", "int8")


def bits(channels: int, pixels: int, batch: int, rate: float) -> torch.Tensor:
    """Random spikes as the kernels read them."""
    spikes = torch.rand(STEPS, batch, pixels, pixels, channels) < rate
    packed = native_conv.silent(STEPS, batch, pixels, pixels, channels)
    lanes = nn.functional.pad(spikes.long(), (0, packed.shape[-1] * 64 - channels))
    worth = torch.ones(64, dtype=torch.int64) << torch.arange(64)
    packed[:, :, 1:-1, 1:-1] = (lanes.unflatten(-1, (-1, 64)) * worth).sum(-1)
    return packed


@torch.inference_mode()
def layer(channels: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a layer by events at each rate, and in the other ways; where they cross."""
    torch.manual_seed(0)
    pixels, batch = LAYERS[channels]
    conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    norm, neuron = nn.BatchNorm2d(channels).eval(), Neuron(name="", decay=0.25, threshold=0.5)
    inputs = {rate: bits(channels, pixels, batch, rate) for rate in RATES}
    fired = native_conv.silent(STEPS, batch, pixels, pixels, channels)
    runs = {}
    for kind in KINDS:
        ours = SpikeLayer(neuron, conv, norm, kind)

        def run(path: Path, rate: float, ours: SpikeLayer = ours) -> object:
            return ours.run(path, inputs[rate], fired, neuron)

        for rate in RATES:
            runs[f"events, {kind}", rate] = lambda run=run, rate=rate: run("events", rate)
        for path in others(channels):
            runs[f"{path}, {kind}", MIDDLE] = lambda run=run, path=path: run(path, MIDDLE)
    times = interleaved(runs, rounds, clock=time.process_time)
    medians = {key: statistics.median(t) for key, t in times.items()}
    rows = {}
    for kind in KINDS:
        events = [medians[f"events, {kind}", rate] for rate in RATES]
        rows[kind] = {"events_ms": [round(ms, 3) for ms in events]}
        for path in others(channels):
            ms = medians[f"{path}, {kind}", MIDDLE]
            rows[kind][f"{path}_ms"] = round(ms, 3)
            rows[kind][f"events_up_to_{path}"] = crossing(events, ms)
    return {"pixels": pixels, "batch": batch, **rows}


def others(channels: int) -> tuple[Path, ...]:
    """The ways whose time hardly depends on the rate."""
    return ("tables", "onednn") if channels == packing.NARROW else ("onednn",)


def crossing(events: list[float], dense: float) -> float:
    """The rate at which events take as long as another way, on lines between those measured."""
    points = list(zip(RATES, events, strict=True))
    slope = (events[-1] - events[-2]) / (RATES[-1] - RATES[-2])
    points.append((1.0, events[-1] + slope * (1.0 - RATES[-1])))
    for (low, before), (high, after) in itertools.pairwise(points):
        if before < dense <= after:
            return round(low + (high - low) * (dense - before) / (after - before), 3)
    return 0.0 if events[0] >= dense else 1.0


def crossings(row: dict[str, Any]) -> dict[str, float]:
    """Up to which rate events are the faster way, beside each other way."""
    return {way: rate for way, rate in row.items() if way.startswith("events_up_to")}


def child(isa: str, rounds: int) -> dict[str, Any]:
    level = native.ISAS.index(isa)
    if native.select_isa(level) != level:
        return {}
    torch.set_num_threads(1)
    return {str(channels): layer(channels, rounds) for channels in LAYERS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=LIMITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.rounds)))
        return
    torch.set_num_threads(1)
    about = timing.provenance("benchmarks.engine_paths", torch.device("cpu"), seeds=[0])
    result = {**machine(), **about, "steps": STEPS, "rounds": options.rounds, "rates": RATES}
    rows = {}
    for isa, (onednn, aten) in LIMITS.items():
        command = [sys.executable, "-m", "benchmarks.engine_paths", "--child", isa]
        limits = {"ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten}
        done = subprocess.run(
            [*command, "--rounds", str(options.rounds)],
            env={**os.environ, **limits},
            stdout=subprocess.PIPE,
            check=True,
        )
        if found := json.loads(done.stdout):
            rows[isa] = {"limits": limits, "layers": found}
            for channels, row in found.items():
                print(isa, channels, {k: crossings(row[k]) for k in KINDS}, flush=True)
    print(timing.write("engine_paths", {**result, "rows": rows}))


if __name__ == "__main__":
    main()
