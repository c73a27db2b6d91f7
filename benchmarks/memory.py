"""Bytes that a training step saves for backward, counted, not timed.

    python -m benchmarks.memory

Every distinct storage that autograd keeps counts once, the pictures and autocast's copies of the
weights too. Parameters and buffers do not: they are there anyway, and equal for all.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from benchmarks.rivals import PlainLoop, bare, ours
from benchmarks.timing import provenance, write
from msr_zoo.bench.spikingjelly import SpikingJelly

GOAL = 0.55  # of SpikingJelly's, in either precision

CONTESTANTS: dict[str, Callable[[Any], nn.Module]] = {
    "msr_zoo": lambda model: model,
    "SpikingJelly": SpikingJelly,
    # Its own operator takes only smooth surrogates and float32: other gradients, as many bytes.
    "SpikingJelly, sigmoid": lambda model: SpikingJelly(model, surrogate.Sigmoid()),
    "plain loop": PlainLoop,
    "conv + BN + ReLU": bare,
}


def saved_bytes(model: nn.Module, x: Tensor, labels: Tensor, dtype: torch.dtype) -> int:
    """Bytes that forward keeps for backward in one training step."""
    given = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        # The graph keeps what it packs alive, so no address is used twice.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train().zero_grad()
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    enabled = dtype != torch.float32
    with hooks, torch.autocast(x.device.type, dtype if enabled else None, enabled=enabled):
        # All is saved by the end of forward; the graph has to live until then.
        F.cross_entropy(model(x), labels)
    return sum(sizes.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["msresnet20", "msresnet110"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--num-steps", type=int, default=6)
    options = parser.parse_args()
    device = torch.device("cpu")
    rows = []
    for name in options.models:
        model = ours(name, options.num_steps, 32)
        x = torch.randn(options.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(model.num_classes, (options.batch,))
        for dtype in (torch.float32, torch.bfloat16):
            counts = {}
            for contestant, build in CONTESTANTS.items():
                net = build(model).to(memory_format=torch.channels_last)
                counts[contestant] = saved_bytes(net, x, labels, dtype)
            row = {
                "model": name,
                "precision": str(dtype).removeprefix("torch."),
                "bytes": counts,
                "ratios": {k: round(counts["msr_zoo"] / v, 4) for k, v in counts.items()},
            }
            rows.append(row)
            print(row, flush=True)
            about = provenance("benchmarks.memory", device, seeds=[0], goal=GOAL)
            shape = {"batch": options.batch, "num_steps": options.num_steps, "size": 32}
            write("memory", {**about, **shape, "rows": rows})
    if any(row["ratios"]["SpikingJelly"] > GOAL for row in rows):
        raise SystemExit(f"more than {GOAL} of SpikingJelly's bytes")


if __name__ == "__main__":
    main()
