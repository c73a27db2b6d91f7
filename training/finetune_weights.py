"""Fine-tune on real recordings with `msr_zoo.finetune`, several seeds, and report their mean.

    python training/finetune_weights.py dvs128-objects

Runs lie below --runs, a folder a seed; a seed that is done is not done again. A case with a tag
becomes a weights folder of the wheel, with the weights of the first seed, and training/report.py
makes its card; the others are checks, and write training/results/finetune-CASE.json.
"""

import argparse
import json
import os
import shutil
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import msr_zoo
from msr_zoo.finetune_report import wilson_interval
from msr_zoo.pretrained import WHEEL, digest_of
from provenance import provenance

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Recordings in an archive of $MSR_ZOO_DATA, and how `msr_zoo.finetune` is called."""

    archive: str
    root: str
    data: str
    note: str
    remark: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    tag: str | None = None


OBJECTS: dict[str, Any] = {
    "archive": "dvs128-objects.tar.xz",
    "data": "dvs128-objects",
    "note": "real recordings of five hand-held objects before a DVS128, in two sessions with other "
    "distances and motions; they are their owners' and not part of this repository",
}
SCRATCH = {"pretrained": False}
CASES = {
    "dvs128-objects": Case(
        root="dvs128-objects",
        options=SCRATCH,
        tag="msresnet20_dvs.dvs128_objects",
        remark="Each seed's stopping point was chosen on the ends of session_a's recordings, the "
        "optimizer and the epochs on session_a split by time and on N-MNIST, but the augmentations "
        "in trials that were tested on session_b.",
        **OBJECTS,
    ),
    # The recipe was chosen by the session above; this one it has not seen.
    "dvs128-objects-reverse": Case(
        root="dvs128-objects", options={**SCRATCH, "test": "session_a"}, **OBJECTS
    ),
    "dvs128-objects-by-time": Case(
        root="dvs128-objects/session_a", options={**SCRATCH, "by_time": True}, **OBJECTS
    ),
    "nmnist-1k": Case(
        archive="nmnist-1k.tar.xz",
        root="nmnist-1k",
        data="N-MNIST, 1,000 of the training samples",
        note="1,000 and 100 samples of the training and test splits of N-MNIST (Orchard et al., "
        "2015; CC BY-SA 4.0), event recordings of MNIST's digits",
        options={**SCRATCH, "upright": True, "num_steps": 3},  # a step a saccade
        tag="msresnet20_dvs.nmnist",
        remark="The recipe was chosen by the samples held out of the 1,000 to tell when to stop; "
        "the 100 were measured after each trial too.",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/finetuned"))
    options = parser.parse_args(arguments)
    case = CASES[options.case]
    root = unpacked(case, options.runs)
    folders = [options.runs / f"{options.case}-{seed}" for seed in options.seeds]
    for seed, folder in zip(options.seeds, folders, strict=True):
        if not folder.exists():
            tuned = msr_zoo.finetune(root, out=folder, seed=seed, report=print, **case.options)
            print(f"{options.case}, seed {seed}: {tuned.accuracy:.2%}", flush=True)
    results = merged([json.loads((f / "results.json").read_text()) for f in folders])
    results |= {
        "model": case.tag or options.case,
        "data": case.data,
        "data_note": case.note,
        "remark": case.remark,
        "seeds": options.seeds,
        "command": " ".join(["python", *sys.argv]),
        **provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    }
    if case.tag is None:
        out = RESULTS / f"finetune-{options.case}.json"
        training = json.loads((folders[0] / "training.json").read_text())
        out.write_text(json.dumps({**results, "recipe": training["recipe"]}, indent=1) + "\n")
    else:
        out = WHEEL / case.tag
        shutil.copytree(folders[0], out, dirs_exist_ok=True)
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"sha256 {digest_of(out / 'model.safetensors')}")
    mean = sum(results["top1"]) / len(results["top1"])
    print(f"{out}: {mean:.2%}, mean of {[f'{share:.2%}' for share in results['top1']]}")


def unpacked(case: Case, runs: Path) -> Path:
    """The folder of a case's recordings, out of its archive."""
    around = runs / "data"
    top = around / case.root.partition("/")[0]
    if not top.exists():
        archive = Path(os.environ.get("MSR_ZOO_DATA", "data")) / case.archive
        with tarfile.open(archive) as tar:
            tar.extractall(around / "part", filter="data")
        (around / "part" / top.name).rename(top)
    return around / case.root


def merged(by_seed: list[dict[str, Any]]) -> dict[str, Any]:
    """The first seed's results, with the accuracies of all, and the interval of their mean."""
    top1 = [share for results in by_seed for share in results["top1"]]
    number = by_seed[0]["num_pictures"]
    return {
        **by_seed[0],
        "top1": top1,
        "top1_interval95": wilson_interval(sum(top1) / len(top1), number),
    }


if __name__ == "__main__":
    main()
