"""What is pretraining on simulated events worth on real recordings? The same budget, three seeds.

    python training/studies/pretraining.py dvs128-objects

Every run is `msr_zoo.finetune` as training/finetune_weights.py calls it, from the weights that the
wheel ships or from random ones; from random ones the head is not trained alone first. The shorter
budgets have fewer epochs. Writes results/pretraining.json.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import msr_zoo
from finetune_weights import CASES, unpacked
from msr_zoo.models.tags import TAGS
from provenance import provenance
from whole import write_whole

RESULTS = Path(__file__).parents[1] / "results"
STARTS: dict[str, dict[str, Any]] = {
    "pretrained": {"model": "msresnet20_dvs.cifar10_events", "pretrained": True},
    "scratch": {"pretrained": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", required=True, help="the budgets")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--out", type=Path, default=RESULTS / "pretraining.json")
    options = parser.parse_args()
    runs = []
    for name in options.cases:
        root = unpacked(CASES[name], options.runs)
        for epochs in options.epochs:
            for start, begin in STARTS.items():
                # Weights that came since under the same name are not those of former runs.
                tag = TAGS.get(begin.get("model", ""))
                of = f"{name}-{start}-{tag.sha256[:8]}" if tag and tag.sha256 else f"{name}-{start}"
                folders = [options.runs / f"{of}-{epochs}-{s}" for s in options.seeds]
                for seed, folder in zip(options.seeds, folders, strict=True):
                    if folder.exists():
                        continue
                    msr_zoo.finetune(
                        root,
                        out=folder,
                        seed=seed,
                        **{**CASES[name].options, **begin, "changes": {"epochs": epochs}},
                    )
                runs.append({"case": name, "epochs": epochs, "start": start, **summary(folders)})
                print(json.dumps(runs[-1]), flush=True)
    results = {
        "what": "top-1 on the test split by seed, after at most so many epochs of fine-tuning",
        "seeds": options.seeds,
        "n": len(options.seeds),
        "command": " ".join(["python", *sys.argv]),
        **provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "runs": runs,
    }
    write_whole(options.out, json.dumps(results, indent=1) + "\n")


def summary(folders: list[Path]) -> dict[str, Any]:
    """Accuracy and length of the runs of all seeds."""
    results = [json.loads((folder / "results.json").read_text()) for folder in folders]
    training = [json.loads((folder / "training.json").read_text()) for folder in folders]
    top1 = [share for result in results for share in result["top1"]]
    return {
        "top1": top1,
        "mean": sum(top1) / len(top1),
        "num_samples": results[0]["num_pictures"],
        "model": training[0]["recipe"]["model"],
        "epochs_run": [len(run["history"]) for run in training],
    }


if __name__ == "__main__":
    main()
