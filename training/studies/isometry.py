"""Does the gradient keep its norm through the blocks? Three networks, by depth; JSON and a figure.

    python training/studies/isometry.py --depths 20 110
    python training/studies/isometry.py --weights msr_zoo/weights/msresnet20.cifar10

What is estimated, msr_zoo/isometry.py says. Networks are measured as initialised, once a seed, and
each weights folder as trained, on one training batch of CIFAR-10 with crops and flips.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import msr_zoo
from data import open_split
from msr_zoo.isometry import mean_and_deviation, measure_isometry
from provenance import provenance
from recipes import PAPER_CIFAR10
from studies.isometry_figure import draw

RESULTS = Path(__file__).parents[1] / "results"
# MS-ResNet starts with empty branches, so it is also measured with branches as full as the others'.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "MS-ResNet": ("msresnet", {}),
    "MS-ResNet, last γ 0.5": ("msresnet", {"zero_init_last": False}),
    "spiking ResNet": ("spiking_resnet", {}),
    "SEW-ResNet": ("sew_resnet", {}),
}
FAMILIES = {family: label for label, (family, changes) in NETWORKS.items() if not changes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depths", type=int, nargs="*", default=[20, 110], help="20 … 482")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="weights folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=PAPER_CIFAR10.num_steps)
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--data", default="cifar10", help="a name or path that data.py knows")
    parser.add_argument("--out", type=Path, default=RESULTS / "isometry.json")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    runs = []
    for depth in options.depths:
        for label, (family, changes) in NETWORKS.items():
            seeds = []
            for seed in options.seeds:
                torch.manual_seed(seed)
                arguments = {"num_classes": 10, "num_steps": options.num_steps, **changes}
                network = msr_zoo.create_model(f"{family}{depth}", **arguments)
                seeds.append(measured(network, options, seed, device))
            runs.append(
                summary(label, depth, "initialised", options.num_steps, options.seeds, seeds)
            )
            print(one_line(runs[-1]), flush=True)
    for folder in options.weights:
        model: Any = msr_zoo.create_model(f"local-dir:{folder}", pretrained=True)
        name = json.loads((folder / "config.json").read_text())["architecture"]
        family = name.rstrip("0123456789")
        label, depth = FAMILIES[family], int(name.removeprefix(family))
        seeds = [measured(model, options, seed, device) for seed in options.seeds]
        runs.append(summary(label, depth, "trained", int(model.num_steps), options.seeds, seeds))
        print(one_line(runs[-1]), flush=True)

    results = {
        "what": "msr_zoo/isometry.py defines phi, spread, gradient_ratio and gradient_norm",
        "data": "CIFAR-10 (JPEG copy), train" if options.data == "cifar10" else options.data,
        "batch_size": options.batch_size,
        "probes": options.probes,
        "seeds": options.seeds,
        "n": len(options.seeds),
        "command": " ".join(["python", *sys.argv]),
        **provenance(device),
        "runs": runs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results) + "\n")
    figure = options.out.with_suffix(".svg")
    figure.write_text(draw(runs))
    print(f"{options.out} and {figure} written")


def measured(
    model: Any, options: argparse.Namespace, seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """The blocks of one network on the batch that the seed draws."""
    recipe = dataclasses.replace(
        PAPER_CIFAR10, data=options.data, batch_size=options.batch_size, seed=seed
    )
    batches = open_split(recipe, model.pretrained_cfg, train=True, device=device)
    images, labels = next(iter(batches.epoch(0)))
    blocks = measure_isometry(model.to(device), images, labels, probes=options.probes, seed=seed)
    return [block.as_dict() for block in blocks]


def summary(
    network: str,
    depth: int,
    state: str,
    num_steps: int,
    seeds: list[int],
    by_seed: list[list[dict[str, Any]]],
) -> dict[str, Any]:
    """The runs of all seeds in one record, with mean and deviation over blocks and seeds."""
    fields = ("phi", "spread", "gradient_ratio", "gradient_norm")
    everything = [block for blocks in by_seed for block in blocks]
    return {
        "network": network,
        "depth": depth,
        "state": state,
        "num_steps": num_steps,
        **{field: mean_and_deviation([block[field] for block in everything]) for field in fields},
        "by_seed": dict(zip(map(str, seeds), by_seed, strict=True)),
    }


def one_line(run: dict[str, Any]) -> str:
    phi, spread, ratio = (run[key] for key in ("phi", "spread", "gradient_ratio"))
    first = [blocks[0]["gradient_norm"] for blocks in run["by_seed"].values()]
    return (
        f"{run['network']} {run['depth']} {run['state']}: phi {phi[0]:.3g} ± {phi[1]:.2g}, "
        f"spread {spread[0]:.3g}, ratio {ratio[0] if ratio else None}, "
        f"gradient norm at the first block over that at the last {first}"
    )


if __name__ == "__main__":
    main()
