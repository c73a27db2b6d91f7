"""Memory over the loaded model, and the time from its weights to the first answer.

    python -m benchmarks.engine_memory

Every figure comes from a process of its own: what one leaves behind is not the next one's.
"""

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import msr_zoo
from benchmarks import timing
from benchmarks.engine import NETWORKS, prepared
from msr_zoo.bench.measure import machine

# Of an engine that frees, the model's own weights of spikes' convolutions go as they are packed.
WAYS = (
    "torch",
    "engine, float32",
    "engine, int8",
    "engine that frees, float32",
    "engine that frees, int8",
)
CALLS = 3


def in_status(field: str) -> float:
    """MiB that Linux names for this process: VmRSS now, VmHWM at most since it was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def settled() -> float:
    """MiB of this process once what was freed is given back; its peak counts from here."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return in_status("VmRSS")


@torch.inference_mode()
def child(name: str, way: str) -> dict[str, float]:
    """MiB over the loaded model, and milliseconds to be ready and to answer first.

    `first_call_mib` and `peak_mib` are the most that the first call and later ones took;
    `kept_mib` is what stays between calls: packed weights and buffers, less what was freed.
    """
    model, x = prepared(name, NETWORKS[name])
    # Weights as a user loads them: none of what preparing them took is left.
    state = {key: value.clone() for key, value in model.state_dict().items()}
    steps = model.num_steps
    del model
    model = msr_zoo.create_model(name.partition(".")[0], num_steps=steps).eval()
    model.load_state_dict(state)
    del state
    before = settled()
    began = time.perf_counter(), time.process_time()
    run = model
    if way != "torch":
        kind = way.rpartition(", ")[2]
        run = msr_zoo.EventEngine(model, weights=kind, frees_weights="frees" in way)
    made = time.process_time()
    run(x)
    first = time.perf_counter(), time.process_time()
    at_first, kept = in_status("VmHWM") - before, settled() - before
    for _ in range(CALLS - 1):
        run(x)
    peak = in_status("VmHWM") - before
    return {
        "first_call_mib": at_first,
        "kept_mib": kept,
        "peak_mib": peak,
        "call_mib": peak - kept,
        "made_cpu_ms": 1000 * (made - began[1]),
        "first_answer_cpu_ms": 1000 * (first[1] - began[1]),
        "first_answer_wall_ms": 1000 * (first[0] - began[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    rows = {}
    for name in options.networks:
        rows[name] = {"batch": NETWORKS[name]}
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.engine_memory", "--child", name, way]
            runs = [
                json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                for _ in range(options.runs)
            ]
            rows[name][way] = {k: round(statistics.median(r[k] for r in runs), 1) for k in runs[0]}
            print(name, way, rows[name][way], flush=True)
        about = timing.provenance("benchmarks.engine_memory", torch.device("cpu"), seeds=[0])
        timing.write("engine_memory", {**machine(), **about, "runs": options.runs, "rows": rows})


if __name__ == "__main__":
    main()
