"""Where the time of a training step goes: convolutions, and everything else, by torch's profiler.

    python -m benchmarks.step_share [--cases msresnet20:32:128:4 ...]

Each operator's own time counts, that of its kernels on a GPU, under the first of its callers that
has a name below. The profiler slows small operators more than large ones, so what is outside the
convolutions is rather too much than too little; the step itself is timed without it.
"""

import argparse
import re
from collections import Counter
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import provenance, write
from benchmarks.training_step import add_options, milliseconds, training_step

CASES = ("msresnet20:32:128:1", "msresnet20:32:128:4", "msresnet110:32:32:4", "msresnet18:224:8:6")
PARTS = {
    "convolutions": r"aten::.*conv",
    "batch norms": r"aten::.*batch_norm",
    "neurons": r"(GeneratedBackwardFor_)?msr_zoo(::|_)lif",
    "bits of spikes": r"(GeneratedBackwardFor_)?msr_zoo(::|_)spike_conv|msr_zoo::.*bits",
    "optimizer": r"Optimizer\.",
    "sums at shortcuts and of gradients": r"aten::add_?$",
    "casts and copies": r"aten::(to|_to_copy|copy_|clone|contiguous)$",
}


def part_of(event: FunctionEvent | None) -> str:
    """The part that an operator belongs to: its own, or that of the nearest caller with one."""
    while event is not None:
        for part, pattern in PARTS.items():
            if re.match(pattern, event.name):
                return part
        event = event.cpu_parent
    return "rest"


def shares(step: Any, rounds: int, device: torch.device) -> dict[str, float]:
    """Each part's share of all operators' own time."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiler:
        for _ in range(rounds):
            step()
        if cuda:
            torch.cuda.synchronize(device)
    times: Counter[str] = Counter()
    for event in profiler.events() or ():
        # Kernels stand in the list a second time, as events of the GPU.
        if event.device_type == torch.autograd.DeviceType.CPU:
            own = event.self_device_time_total if cuda else event.self_cpu_time_total
            times[part_of(event)] += own
    total = sum(times.values())
    return {part: times[part] / total for part in (*PARTS, "rest")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", nargs="+", default=list(CASES), help="model:pixels:batch:T, several"
    )
    add_options(parser)
    options = parser.parse_args()
    device = torch.device(options.device)
    rows = []
    for case in options.cases:
        name, *numbers = case.split(":")
        try:
            size, batch, num_steps = map(int, numbers)
            step = training_step(name, size, batch, num_steps, options.precision, device)
        except (ValueError, RuntimeError) as error:
            parser.error(f"{case}: {error}")
        times = milliseconds(step, options.rounds, device)
        parts = shares(step, max(2, options.rounds // 3), device)
        rows.append(
            {
                "model": name,
                "size": size,
                "batch": batch,
                "num_steps": num_steps,
                "precision": options.precision,
                "step": times,
                "shares": {part: round(share, 4) for part, share in parts.items()},
                "outside_convolutions": round(1 - parts["convolutions"], 4),
            }
        )
        print(rows[-1], flush=True)
        about = provenance("benchmarks.step_share", device, seeds=[0])
        write(options.out or "step_share", {**about, "rows": rows})


if __name__ == "__main__":
    main()
