"""What `record_activity` costs: inference with and without it, interleaved in one process.

python benchmarks/activity_overhead.py --out activity_overhead.json
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import timm
import torch

import msr_zoo
from msr_zoo.activity import record_activity

CASES = [("msresnet20", 32, 1), ("msresnet20", 32, 32), ("msresnet18", 224, 1)]


def seconds(model: torch.nn.Module, x: torch.Tensor, record: Any) -> float:
    start = time.perf_counter()
    with record:
        model(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, size: int, batch: int, device: str, rounds: int) -> dict[str, Any]:
    model = timm.create_model(name, zero_init_last=False).eval().to(device)
    x = torch.randn(batch, 3, size, size, device=device)
    ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "bare": nullcontext,
        "rates": lambda: record_activity(model),
        "spikes": lambda: record_activity(model, keep_spikes=True),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    with torch.inference_mode():
        for _ in range(rounds + 2):
            for way, record in ways.items():
                times[way].append(seconds(model, x, record()))
    rest = {way: values[2:] for way, values in times.items()}  # the first two warm up
    # A round's runs follow each other, so the ratio within a round cancels a machine's drift.
    ratios = {
        way: statistics.median(a / b for a, b in zip(rest[way], rest["bare"], strict=True))
        for way in ("rates", "spikes")
    }
    medians = {way: statistics.median(values) for way, values in rest.items()}
    return {
        "model": name, "input_size": [batch, 3, size, size], "num_steps": model.num_steps,
        "median_seconds": medians, "median_ratio": ratios,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    report = {
        "command": " ".join(["python", "benchmarks/activity_overhead.py", *sys.argv[1:]]),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "msr_zoo": msr_zoo.__version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else processor(),
        "threads": args.threads,
        "rounds": args.rounds,
        "results": [measure(*case, args.device, args.rounds) for case in CASES],
    }
    text = json.dumps(report, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
