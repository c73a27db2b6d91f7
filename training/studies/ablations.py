"""What raises accuracy most for its cost? Trainings that differ in one thing; a JSON and a table.

    python training/studies/ablations.py
    python training/studies/ablations.py --groups late --seeds 0 1 2

Each is a run of training/train.py, and goes on where it was interrupted. Those of the group `early`
begin with random weights and last two short epochs, which is enough to see who learns fast; those
of `decay` one at T = 4, because at T = 1 a neuron has no past that could decay. What keeps a
network from knowing its training pictures by heart cannot show so early, so the group `late` trains
on from weights that know theirs well, down to a learning rate of zero. The seconds compare only
where nothing else ran beside. Rows that are in the JSON stay until they are made anew; each says of
which commit it is. What is not an option here is one of train.py's recipe.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from msr_zoo.models.tags import TAGS
from provenance import provenance
from studies.runs import finished
from whole import write_whole

RESULTS = Path(__file__).parents[1] / "results"
SGD = ["--optimizer", "sgd", "--lr", "0.2", "--weight-decay", "5e-4"]
WEIGHTS = "msresnet20.cifar10"
TRAINED = ["--model", WEIGHTS, "--pretrained", "true", "--lr", "0.01"]
TET = ["--schedule", "1x2@24", "--tet", "true"]
TAUGHT = ["--teacher", "resnet_twin20.cifar10"]


@dataclass(frozen=True)
class Group:
    """Runs that begin alike: `start` for train.py, and what each changes, by its name."""

    start: list[str]
    changes: dict[str, list[str]]


GROUPS = {
    # Pictures of 24 px cost little more than half of those of 32, and two steps twice one.
    "early": Group(
        ["cifar10-two-cores", "--schedule", "2x1@24"],
        {
            "as it is: Muon, T 1, 24 px": [],
            "SGD with Nesterov momentum": [*SGD, "--nesterov", "true"],
            "SGD": SGD,
            "Muon, a quarter of the learning rate": ["--lr", "0.005"],
            "Muon, 2.5 times the learning rate": ["--lr", "0.05"],
            "batch 256": ["--batch-size", "256"],
            "half the epochs at 32 px": ["--schedule", "1x1"],
            "half the epochs at T 2": ["--schedule", "1x2@24"],
            "half the epochs at T 2, a loss of each step (TET)": TET,
            "taught by the non-spiking twin": TAUGHT,
        },
    ),
    "decay": Group(
        ["cifar10-two-cores", "--schedule", "1x4@24"],
        {
            "as it is: 0.25": [],
            "0: every step for itself": ["--decay", "0"],
            "0.5": ["--decay", "0.5"],
            "0.75": ["--decay", "0.75"],
            "learned, beginning with 0.25": ["--learned-decay", "true"],
        },
    ),
    "late": Group(
        ["cifar10-two-cores", *TRAINED, "--schedule", "3x1", "--warmup-epochs", "0.1"],
        {
            "as it is: Muon, T 1, 32 px": [],
            "label smoothing 0.1": ["--label-smoothing", "0.1"],
            "mean of the weights, decay 0.99": ["--ema-decay", "0.99"],
            "cutout of 8 px": ["--cutout", "8"],
            "RandAugment of magnitude 5": ["--randaugment", "5"],
            "taught by the non-spiking twin": TAUGHT,
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {name for group in GROUPS.values() for name in group.changes}
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--changes", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", default="cifar10", help="a name or path that data.py knows")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS / "ablations.json")
    parser.add_argument(
        "--max-minutes", type=float, default=math.inf, help="save and end after so many minutes"
    )
    options, recipe = parser.parse_known_args()
    ends = time.monotonic() + 60 * options.max_minutes

    data = "CIFAR-10 (JPEG copy)" if options.data == "cifar10" else options.data
    results = {
        "what": "test top-1, and top-1 and loss of the augmented training pictures while the last "
        "epoch passed, of trainings that differ in one thing; `early` and `decay` from random "
        "weights, `late` on from trained ones",
        "data": data,
        "given": recipe,
    }
    rows: list[dict[str, Any]] = []
    if options.out.exists():
        there = json.loads(options.out.read_text())
        if (there["data"], there["given"]) != (data, recipe):
            parser.error(f"{options.out} is of other data or another recipe; choose another --out")
        rows = there["rows"]
    for seed, name, change in planned(options):
        start, changed = GROUPS[name].start, GROUPS[name].changes[change]
        weights = TAGS[WEIGHTS].sha256 if WEIGHTS in start else None
        folder = f"{name}-{re.sub('[^a-z0-9]+', '-', change.lower())}-{seed}"
        # Weights that came since under the same name are not those of former runs.
        out = options.runs / (f"{folder}-{weights[:8]}" if weights else folder)
        arguments = [*start, *changed, "--data", options.data, "--seed", str(seed)]
        saved = finished([*arguments, *recipe, "--out", str(out)], out, ends)
        if saved is None:
            print("stopped; the same command goes on")
            return
        row = {**made_of(saved, name, change), "weights_sha256": weights}
        rows = [r for r in rows if r["group"] != name or r["weights_sha256"] == weights]
        rows = sorted([row, *(r for r in rows if place(r) != place(row))], key=place)
        write(options.out, results, rows)
        print(one_line(row), flush=True)
    print("\n".join(table(rows)))


def planned(options: argparse.Namespace) -> Iterator[tuple[int, str, str]]:
    """Seed, group and change of each run: a whole table of one seed before the next seed."""
    for seed in options.seeds:
        for name in options.groups:
            for change in GROUPS[name].changes:
                if change in options.changes:
                    yield seed, name, change


def made_of(saved: dict[str, Any], group: str, change: str) -> dict[str, Any]:
    """A row of the results, from a finished run's checkpoint."""
    last = saved["history"][-1]
    return {
        "group": group,
        "change": change,
        "options": GROUPS[group].changes[change],
        "learned_decay": last.get("decay"),
        "seed": saved["recipe"]["seed"],
        "top1": last["top1"],
        "train_top1": last["train_top1"],
        "train_loss": last["loss"],
        "seconds": sum(epoch["seconds"] for epoch in saved["history"]),
        "recipe": saved["recipe"],
        "provenance": saved["provenance"],
    }


def place(row: dict[str, Any]) -> tuple[int, int, int]:
    """Where a row stands in the study: by group, change, seed."""
    group = row["group"]
    return list(GROUPS).index(group), list(GROUPS[group].changes).index(row["change"]), row["seed"]


def write(file: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    results = {
        **about,
        "seeds": sorted({row["seed"] for row in rows}),
        "n": len({row["seed"] for row in rows}),
        "command": " ".join(["python training/studies/ablations.py", *about["given"]]),
        **provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "rows": rows,
    }
    write_whole(file, json.dumps(results, indent=1) + "\n")


def one_line(row: dict[str, Any]) -> str:
    return (
        f"{row['group']}, {row['change']}, seed {row['seed']}: "
        f"top-1 {row['top1']:.2%}, loss {row['train_loss']:.3f}"
    )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines, a table for each group: means over the n runs of a change."""
    lines: list[str] = []
    for group in dict.fromkeys(row["group"] for row in rows):
        lines += ["", f"| {group} | n | test | training |", "|---|---|---|---|"]
        mine = [row for row in rows if row["group"] == group]
        for change in dict.fromkeys(row["change"] for row in mine):
            same = [row for row in mine if row["change"] == change]
            test, training = (mean([row[key] for row in same]) for key in ("top1", "train_top1"))
            lines.append(f"| {change} | {len(same)} | {test} | {training} |")
    return lines[1:]


def mean(shares: list[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{sum(known) / len(known):.2%}" if len(known) == len(shares) else "not kept"


if __name__ == "__main__":
    main()
