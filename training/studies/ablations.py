"""What raises accuracy most for its cost? Short trainings that differ in one thing; a JSON.

    python training/studies/ablations.py

Each is one run of training/train.py by the recipe cifar10-two-cores, cut to a few minutes, and goes
on where it was interrupted. Their seconds compare only where nothing else ran beside. What is not
an option here is one of train.py's recipe.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from provenance import provenance
from studies.runs import finished, write_whole

RESULTS = Path(__file__).parents[1] / "results"
SGD = ["--optimizer", "sgd", "--lr", "0.2", "--weight-decay", "5e-4"]
# Pictures of 24 px cost little more than half of those of 32, and two steps twice one.
SCHEDULE = ["--schedule", "2x1@24"]
CHANGES: dict[str, list[str]] = {
    "as it is: Muon, T 1, 24 px": [],
    "SGD with Nesterov momentum": [*SGD, "--nesterov", "true"],
    "SGD": SGD,
    "Muon, a quarter of the learning rate": ["--lr", "0.005"],
    "Muon, 2.5 times the learning rate": ["--lr", "0.05"],
    "label smoothing 0.1": ["--label-smoothing", "0.1"],
    "batch 256": ["--batch-size", "256"],
    "half the epochs at 32 px": ["--schedule", "1x1"],
    "half the epochs at T 2": ["--schedule", "1x2@24"],
    "half the epochs at T 2, a loss of each step (TET)": ["--schedule", "1x2@24", "--tet", "true"],
    "mean of the weights, decay 0.99": ["--ema-decay", "0.99"],
    "cutout of 8 px": ["--cutout", "8"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--data", default="cifar10", help="a name or path that data.py knows")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS / "ablations.json")
    parser.add_argument("--max-minutes", type=float, help="save and end after so many minutes")
    options, recipe = parser.parse_known_args()
    ends = time.monotonic() + 60 * (options.max_minutes or float("inf"))

    rows: list[dict[str, Any]] = []
    for name in options.changes:
        out = options.runs / f"{list(CHANGES).index(name)}"
        arguments = ["cifar10-two-cores", *SCHEDULE, *CHANGES[name], "--data", options.data]
        saved = finished([*arguments, *recipe, "--out", str(out)], out, ends)
        if saved is None:
            print("stopped; the same command goes on")
            return
        last = saved["history"][-1]
        rows.append(
            {
                "change": name,
                "options": CHANGES[name],
                "top1": last["top1"],
                "train_loss": last["loss"],
                "seconds": sum(epoch["seconds"] for epoch in saved["history"]),
                "recipe": saved["recipe"],
            }
        )
        write(options, rows)
        print(f"{name}: top-1 {last['top1']:.2%}, loss {last['loss']:.3f}", flush=True)


def write(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    results = {
        "what": "test top-1 and training loss at the end of short trainings that differ in one "
        "thing; one seed each, so differences below a point say little",
        "data": "CIFAR-10 (JPEG copy)" if options.data == "cifar10" else options.data,
        "n": 1,
        "command": " ".join(["python", *sys.argv]),
        **provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "rows": rows,
    }
    write_whole(options.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
