"""The event-driven engine beside the bare convolutions, SpikingJelly 2.0 and the non-spiking twin.

    python -m benchmarks.engine [--networks msresnet18 ...] [--threads 2] [--compile [bfloat16]]
        [--by-block]

A run measures one number of threads on one machine and keeps what earlier runs measured of others:
a row is known by its network, threads and the instruction set of the kernels. With --compile,
SpikingJelly is also compiled, which takes minutes a network; with --by-block each of its blocks is
compiled alone, and those alike once, because as a whole msresnet110 takes hours.
"""

import argparse
import functools
import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import msr_zoo
from benchmarks import timing
from benchmarks.engine_groups import ratios
from msr_zoo.bench.contestants import Runs, contestants, convolution_calls, folded
from msr_zoo.bench.inputs import calibrate, sample
from msr_zoo.bench.measure import compare, machine
from msr_zoo.bench.spikingjelly import SpikingJelly
from msr_zoo.models.ms_resnet import MSResNet

# A bare name has random weights whose layers fire at `RATE`; one with a tag has its own.
NETWORKS = {"msresnet18": 1, "msresnet34": 1, "msresnet20.cifar10": 32, "msresnet110": 32}
RATE = 0.15


def prepared(name: str, batch: int) -> tuple[MSResNet, Tensor]:
    """A network in evaluation mode, and what it is measured with."""
    torch.manual_seed(0)
    trained = "." in name
    kwargs: dict[str, Any] = {"pretrained": True} if trained else {"zero_init_last": False}
    model: Any = msr_zoo.create_model(name, **kwargs).eval()
    x = sample(model, batch)
    if not trained:
        calibrate(model, x, RATE)
    return model, x


def compiled(
    model: MSResNet, x: Tensor, dtype: torch.dtype, by_block: bool
) -> Callable[[], object]:
    """SpikingJelly's network, folded and compiled; its states are put to rest outside the graph."""
    rival: Any = folded(SpikingJelly(model)).to(memory_format=torch.channels_last).to(dtype)
    # Part of the compiler's cache key, unlike the number of threads that torch has at the time.
    options = {"cpp.threads": torch.get_num_threads()}
    if by_block:
        for part in rival.net.children():
            for alone in part if isinstance(part, nn.Sequential) else [part]:
                alone.compile(options=options)
    else:
        rival.net = torch.compile(rival.net, options=options)
    return functools.partial(rival, x.to(dtype).contiguous(memory_format=torch.channels_last))


def quantised(model: MSResNet, picture: Tensor) -> Callable[[], object]:
    """All convolutions of one pass in int8 by torch's quantised operator, and nothing between."""
    inputs: dict[torch.Size, Tensor] = {}
    calls: list[tuple[Tensor, Any]] = []
    for conv, shape in convolution_calls(model, picture):
        shape = torch.Size((len(picture), *shape[1:]))
        if shape not in inputs:
            x = torch.rand(shape).contiguous(memory_format=torch.channels_last)
            inputs[shape] = torch.quantize_per_tensor(x, 1 / 127, 0, torch.quint8)
        weight = conv.weight.detach()
        scales = weight.abs().amax((1, 2, 3)) / 127
        zeros = torch.zeros(len(weight), dtype=torch.long)
        whole = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        ones = [1, 1]
        pack = torch.ops.quantized.conv2d_prepack
        calls.append(
            (inputs[shape], pack(whole, None, [*conv.stride], [*conv.padding], ones, conv.groups))
        )

    def run() -> None:
        for pictures, packed in calls:
            torch.ops.quantized.conv2d(pictures, packed, 0.1, 128)

    return run


@torch.inference_mode()
def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One network: the median of each contestant, and the engine's part of it."""
    model, x = prepared(name, NETWORKS[name])
    entries: dict[str, Runs] = contestants(model, x)
    entries["twin's bare convolutions, int8"] = {"channels-last": quantised(model, x)}
    for precision in options.compile:
        dtype = getattr(torch, precision)
        how = "compiled by block" if options.by_block else "compiled"
        label = f"SpikingJelly, BN folded, {how}, {precision}"
        entries[label] = {"channels-last": compiled(model, x, dtype, options.by_block)}
    # The time of one thread's processor is the same on a machine that does other work too.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    rows = compare(entries, rounds=options.rounds, seconds=options.seconds, clock=clock)
    engine = msr_zoo.EventEngine(model)
    run = engine.run(x)
    rates = [float(rate.mean()) for rate in run.activity.values()]
    return {
        "model": name,
        "input": list(x.shape),
        "steps": model.num_steps,
        "clock": clock.__name__,
        "mean_rate": round(statistics.mean(rates), 4),
        "same_top1": float((run.logits.argmax(1) == model(x).argmax(1)).float().mean()),
        "times": {
            row.name: {
                "median_ms": round(row.median_ms, 3),
                "min_ms": round(row.min_ms, 3),
                "max_ms": round(row.max_ms, 3),
                "n": row.n,
                "layout": row.layout,
            }
            for row in rows
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=60.0, help="at most, a network")
    precisions = ("float32", "bfloat16")
    parser.add_argument("--compile", nargs="*", choices=precisions, help="by default in both")
    parser.add_argument("--by-block", action="store_true", help="compile block by block")
    options = parser.parse_args()
    # Without the option None, and with nothing behind it an empty list.
    options.compile = () if options.compile is None else options.compile or precisions
    torch.set_num_threads(options.threads)
    # torch says at every call that its quantised tensors will go.
    warnings.filterwarnings("ignore", message=".*quantize.*", category=UserWarning)
    path = timing.RESULTS / "engine.json"
    for name in options.networks:
        torch.compiler.reset()
        row = {**measure(name, options), **machine()}
        about = timing.provenance("benchmarks.engine", torch.device("cpu"), seeds=[0])
        # Read now: another run may have measured other networks meanwhile.
        rows = json.loads(path.read_text())["rows"] if path.exists() else {}
        rows[f"{name}, {row['threads']} threads, {row['kernels']}"] = {**row, **about}
        for engine in (way for way in row["times"] if way.startswith("engine")):
            print(f"{name}, {engine}: {ratios(row, engine)}", flush=True)
        timing.write("engine", {"rate": RATE, "rows": rows})


if __name__ == "__main__":
    main()
