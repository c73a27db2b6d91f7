"""Measuring contestants side by side, and the table that comes of it."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from msr_zoo.activity import record_activity
from msr_zoo.bench.contestants import Runs, contestants
from msr_zoo.bench.inputs import calibrate, sample
from msr_zoo.event_fit import why_not
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSResNet

__all__ = ["Row", "compare", "interleaved", "machine", "measure"]

RATE = 0.15  # trained networks fire at 0.1 to 0.2
Name = TypeVar("Name")


@dataclass(frozen=True)
class Row:
    """A contestant's time for one batch: the median in its faster layout, over n rounds."""

    name: str
    median_ms: float
    min_ms: float
    max_ms: float
    n: int
    layout: str


@torch.inference_mode()
def measure(
    name: str, model: MSResNet, batch: int, *, trained: bool, seconds: float = 20.0
) -> dict[str, Any]:
    """The table of `msr-zoo bench` as what JSON can hold; milliseconds are for a whole batch.

    Where a model is not `trained`, its layers are made to fire at a rate of `RATE`.
    """
    x = sample(model, batch)
    if not trained:
        calibrate(model, x, RATE)
    with record_activity(model) as activity:
        model(x)
    rows = compare(contestants(model, x), seconds=seconds)
    return {
        "model": name,
        "trained": trained,
        "input": list(x.shape),
        "steps": max(len(rates) for rates in activity.rates.values()),
        "firing_rate": activity.firing_rate,
        "why_not": why_not(model),
        **machine(),
        "rows": [asdict(row) for row in rows],
    }


@torch.inference_mode()
def compare(
    entries: Mapping[str, Runs],
    *,
    rounds: int = 50,
    seconds: float = 20.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Measure side by side, everyone in the faster of its layouts."""
    flat = {(name, layout): run for name, runs in entries.items() for layout, run in runs.items()}
    # A few rounds tell which layout is the faster one.
    first = interleaved(flat, 3, seconds / 4, clock)
    best: dict[str, str] = {}
    for name, runs in entries.items():
        medians = {layout: statistics.median(first[name, layout]) for layout in runs}
        best[name] = min(medians, key=medians.__getitem__)
    times = interleaved({n: flat[n, layout] for n, layout in best.items()}, rounds, seconds, clock)
    return [
        Row(name, statistics.median(t), min(t), max(t), len(t), best[name])
        for name, t in times.items()
    ]


def interleaved(
    runs: Mapping[Name, Callable[[], object]],
    rounds: int,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """Milliseconds of each call, all taking turns, so that drift meets all alike.

    Every round begins with another, so none always runs behind the same neighbour. The first call
    of each warms up. Stops after so many rounds or seconds, but not before three rounds.
    `time.process_time` for a clock counts the processor's time, of all threads together.
    """
    for run in runs.values():
        run()
    names, began = list(runs), time.perf_counter()
    times: dict[Name, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        if i >= 3 and time.perf_counter() - began > seconds:
            break
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            runs[name]()
            times[name].append((clock() - start) * 1000)
    return times


def machine() -> dict[str, Any]:
    """What a time depends on: processor, threads, instruction set of the kernels, torch."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": native.isa() if native.library else None,
        "torch": str(torch.__version__),
    }
