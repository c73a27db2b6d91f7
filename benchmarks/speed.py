"""Inference and training steps beside SpikingJelly 2.0 and the bare convolutions.

    python -m benchmarks.speed [--quick] [--compile none|msresnet20 ...] [--models msresnet20 ...]

Before anything is timed, the rivals must give the same spikes, logits and gradients as ours.
"""

import argparse
import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fairness import check
from benchmarks.rivals import PlainLoop, bare, ours
from benchmarks.timing import interleaved, provenance, write
from msr_zoo.bench.contestants import folded
from msr_zoo.bench.spikingjelly import SpikingJelly

# Model, pixels, batches of inference, batch of training.
CASES = {
    "msresnet18": (224, (1, 8), 8),
    "msresnet20": (32, (32,), 32),
    "msresnet110": (32, (32,), 32),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PRECISIONS = (torch.float32, torch.bfloat16)
NUM_STEPS = 6


def contestants(
    model: Any, *, training: bool, compiled: bool
) -> dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], bool]]:
    """Name: how to build it, the layouts to try, whether to compile it."""
    both, last = ("contiguous", "channels_last"), ("channels_last",)
    # Folding is for inference: in training the batch norms are at work.
    fold = (lambda net: net) if training else folded
    entries = {
        "msr_zoo": (lambda: model, both, False),
        "SpikingJelly": (lambda: SpikingJelly(model), both, False),
        "plain loop": (lambda: PlainLoop(model), ("contiguous",), False),
        "bare convolutions": (lambda: fold(bare(model)), both, False),
    }
    if compiled:
        entries |= {
            "msr_zoo, compiled": (lambda: fold(model), last, True),
            "SpikingJelly, compiled": (lambda: fold(SpikingJelly(model)), last, True),
            "bare convolutions, compiled": (lambda: fold(bare(model)), last, True),
        }
    return entries


def compile_net(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network compiled; SpikingJelly's states are put to rest outside the graph."""
    if isinstance(net, SpikingJelly):
        net.net = torch.compile(net.net)
        return net
    return torch.compile(net)


def inference(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.inference_mode():
        return net(x)


def training_step(net: nn.Module, x: Tensor, labels: Tensor, dtype: torch.dtype) -> None:
    for parameter in net.parameters():
        parameter.grad = None
    half = dtype != torch.float32
    with torch.autocast(x.device.type, dtype if half else None, enabled=half):
        logits = net(x)
    F.cross_entropy(logits.float(), labels).backward()


def time_case(
    name: str, size: int, batch: int, *, training: bool, dtype: torch.dtype, options: Any
) -> dict[str, Any]:
    """One row: everybody's median for one model, batch, task and precision."""
    device = torch.device(options.device)
    model = ours(name, NUM_STEPS, size).to(device).train(training)
    pictures = torch.randn(batch, 3, size, size, device=device)
    labels = torch.randint(model.num_classes, (batch,), device=device)
    runs: dict[str, Callable[[], object]] = {}
    entries = contestants(
        model, training=training, compiled=not training and name in options.compile
    )
    for contestant, (build, layouts, compiled) in entries.items():
        for layout in layouts:
            memory_format = LAYOUTS[layout]
            # Inference holds its weights in the precision; training leaves that to autocast.
            net = build_copy(build, memory_format, None if training else dtype, training)
            net = net.to(device)  # rivals are built on the CPU
            x = pictures.to(None if training else dtype, memory_format=memory_format)
            call = compile_net(net) if compiled else net
            runs[f"{contestant} ({layout})"] = (
                functools.partial(training_step, call, x, labels, dtype)
                if training
                else functools.partial(inference, call, x)
            )
    times = interleaved(runs, options.rounds, device)
    best = {
        contestant: min(times[f"{contestant} ({layout})"]["median_ms"] for layout in layouts)
        for contestant, (_, layouts, _) in entries.items()
    }
    mine = min(value for key, value in best.items() if key.startswith("msr_zoo"))
    return {
        "model": name,
        "task": "training step" if training else "inference",
        "size": size,
        "batch": batch,
        "precision": str(dtype).removeprefix("torch."),
        "best_layout_ms": best,
        "msr_zoo_best_over": {
            key: round(mine / value, 3) for key, value in best.items() if "msr_zoo" not in key
        },
        "times": times,
    }


def build_copy(
    build: Callable[[], nn.Module],
    memory_format: torch.memory_format,
    dtype: torch.dtype | None,
    training: bool,
) -> nn.Module:
    return copy.deepcopy(build()).to(dtype=dtype, memory_format=memory_format).train(training)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", default="inference_training", help="name of the JSON, for another machine's"
    )
    parser.add_argument(
        "--compile",
        nargs="+",
        default=["msresnet18", "msresnet20"],
        choices=["none", *CASES],
        help="models whose inference is also timed compiled, which takes minutes each",
    )
    parser.add_argument(
        "--quick", action="store_true", help="try it: msresnet20, batch 2, three rounds, no JSON"
    )
    options = parser.parse_args()
    if options.quick:
        options.models, options.rounds, options.compile = ["msresnet20"], 3, []
    torch.manual_seed(0)

    fairness, rows = {}, []
    for name in options.models:
        size, batches, training_batch = CASES[name]
        if options.quick:
            batches, training_batch = (2,), 2
        for dtype in (torch.float64, torch.float32):
            # 64 px are enough to tell whether two networks are the same one.
            key = f"{name}, {str(dtype).removeprefix('torch.')}"
            fairness[key] = check(name, NUM_STEPS, min(size, 64), dtype)
            print(key, fairness[key], flush=True)
        tasks = [(False, batch) for batch in batches] + [(True, training_batch)]
        for training, batch in tasks:
            for dtype in PRECISIONS:
                torch.compiler.reset()
                row = time_case(name, size, batch, training=training, dtype=dtype, options=options)
                rows.append(row)
                print({key: value for key, value in row.items() if key != "times"}, flush=True)
                if not options.quick:
                    # After every row: a long run that is cut keeps what it has measured.
                    device = torch.device(options.device)
                    about = provenance("benchmarks.speed", device, seeds=[0], num_steps=NUM_STEPS)
                    write(options.out, {**about, "fairness": fairness, "rows": rows})


if __name__ == "__main__":
    main()
