"""How far the engine's spikes and answers are those of torch, on CIFAR-10's test pictures.

    PYTHONPATH=training python -m benchmarks.engine_agreement [--spikes 1000] [--pictures 10000]

In float32 the order of additions differs, so a potential at the threshold may fall either way.
"""

import argparse
import dataclasses
import json
from typing import Any

import torch
from torch import Tensor

import msr_zoo
from benchmarks import timing
from data import open_split
from msr_zoo.activity import record_activity
from msr_zoo.bench.measure import machine
from msr_zoo.kernels import native
from recipes import CIFAR10_TWO_CORES

MODEL = "msresnet20.cifar10"
DATA = "cifar10"


@torch.inference_mode()
def compare_spikes(model: Any, engine: msr_zoo.EventEngine, x: Tensor) -> dict[str, list[int]]:
    """Spikes and silences that differ, and all there are, by layer."""
    run = engine.run(x, keep=True)
    with record_activity(model, keep_spikes=True) as activity:
        model(x)
    counts = {}
    for name in run.counts:
        differ = activity.spikes(name) != run.spikes(name)
        counts[name] = [int(differ.sum()), differ.numel()]
    return counts


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spikes", type=int, default=1000, help="pictures of which all spikes are")
    parser.add_argument("--pictures", type=int, default=10_000)
    options = parser.parse_args()
    device = torch.device("cpu")
    model: Any = msr_zoo.create_model(MODEL, pretrained=True).eval()
    model = model.to(memory_format=torch.channels_last)
    recipe = dataclasses.replace(CIFAR10_TWO_CORES, data=DATA, batch_size=100)
    batches = open_split(recipe, model.pretrained_cfg, train=False, device=device)
    engines = {
        "float32": msr_zoo.EventEngine(model),
        "int8": msr_zoo.EventEngine(model, weights="int8"),
    }
    best = native.isa()
    isas = list(dict.fromkeys((best, "avx512vbmi2" if best == "amx" else best)))
    spikes: dict[str, dict[str, list[int]]] = {isa: {} for isa in isas}
    right = dict.fromkeys(("torch", *engines), 0)
    same = dict.fromkeys(engines, 0)
    seen = 0
    for images, labels in batches.epoch(0):
        images = images.contiguous(memory_format=torch.channels_last)
        if seen < options.spikes:
            for isa in isas:
                native.select_isa(native.ISAS.index(isa))
                for name, counts in compare_spikes(model, engines["float32"], images).items():
                    so_far = spikes[isa].setdefault(name, [0, 0])
                    spikes[isa][name] = [a + b for a, b in zip(so_far, counts, strict=True)]
            native.select_isa(native.ISAS.index(best))
        answers = {"torch": model(images).argmax(1)}
        answers |= {name: engine(images).argmax(1) for name, engine in engines.items()}
        for name, answer in answers.items():
            right[name] += int((answer == labels).sum())
        for name in engines:
            same[name] += int((answers[name] == answers["torch"]).sum())
        seen += len(images)
        if seen >= options.pictures:
            break
    result = {
        "model": MODEL,
        "data": "CIFAR-10 (JPEG copy), test",
        "pictures": seen,
        "top1": {name: count / seen for name, count in right.items()},
        "same_top1_as_torch": {name: count / seen for name, count in same.items()},
        "spike_pictures": min(options.spikes, seen),
        "spikes_equal": {
            isa: {name: 1 - differ / every for name, (differ, every) in layers.items()}
            for isa, layers in spikes.items()
        },
        **machine(),
        **timing.provenance("benchmarks.engine_agreement", device),
    }
    result["least_equal_layer"] = {k: min(v.values()) for k, v in result["spikes_equal"].items()}
    print(json.dumps({k: v for k, v in result.items() if k != "spikes_equal"}, indent=1))
    print(timing.write("engine_agreement", result))


if __name__ == "__main__":
    main()
