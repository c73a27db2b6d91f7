"""Measure a trained model on a test split: accuracy, by step too, firing rate, energy.

    python training/evaluate.py msr_zoo/weights/msresnet20.cifar10 --data cifar10

Writes results.json into the weights folder (or --out), which training/report.py makes cards and
tables from.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import msr_zoo
from data import Batches, channels_last, open_split
from msr_zoo.activity import record_activity
from msr_zoo.finetune_report import wilson_interval
from provenance import provenance
from recipes import CIFAR10_TWO_CORES
from whole import write_whole

DATA_NAMES = {
    "cifar10": "CIFAR-10 (JPEG copy)",
    "cifar10-events": "CIFAR-10 (JPEG copy), simulated events",
    "imagenette": "Imagenette 224 px",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a weights folder, or a registered name with its tag")
    parser.add_argument("--data", required=True, help="a name or path that training/data.py knows")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--num-steps", type=int, help="T; default: the model's own")
    parser.add_argument("--out", type=Path, help="default: results.json in the weights folder")
    options = parser.parse_args()
    folder = Path(options.model)
    if not folder.is_dir() and options.out is None:
        parser.error("--out is needed for a model that is not a folder")
    if options.num_steps is not None and options.out is None:
        parser.error("--out is needed for another T than the weights' own")
    out = options.out or folder / "results.json"
    if not out.parent.is_dir():
        parser.error(f"{out.parent} is no folder to write {out.name} into")
    source = f"local-dir:{folder}" if folder.is_dir() else options.model

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 is what the results say
    try:
        own = {} if options.num_steps is None else {"num_steps": options.num_steps}
        model: Any = msr_zoo.create_model(source, pretrained=True, **own)
        model = model.to(device, memory_format=torch.channels_last).eval()
        cfg: Any = model.pretrained_cfg
        recipe = dataclasses.replace(
            CIFAR10_TWO_CORES,
            data=options.data,
            batch_size=options.batch_size,
            schedule=f"1x{model.num_steps}",
        )
        recipe.check()
        batches = open_split(recipe, cfg, train=False, device=device)
    except (ValueError, OSError, RuntimeError) as error:
        parser.error(str(error))
    labels = cfg.get("label_names")
    if labels and tuple(labels) != batches.classes:
        parser.error(f"the model knows the classes {tuple(labels)}, the data {batches.classes}")
    training = folder / "training.json"
    results = {
        "model": folder.name if folder.is_dir() else options.model,
        "data": DATA_NAMES.get(options.data, options.data),
        "split": batches.split,
        **measure(model, batches),
        "seeds": [json.loads(training.read_text())["recipe"]["seed"]] if training.exists() else [],
        "command": " ".join(["python", *sys.argv]),
        **provenance(device),
    }
    write_whole(out, json.dumps(results, indent=1) + "\n")
    print(f"{out}: top-1 {results['top1'][0]:.2%}")


@torch.inference_mode()
def measure(model: Any, batches: Batches) -> dict[str, Any]:
    """Accuracy after each step from one run a picture, its interval, and the activity; float32."""
    right_by_step: torch.Tensor | int = 0
    right_top5 = 0
    with record_activity(model) as activity:
        for images, labels in tqdm(batches.epoch(0), total=len(batches), desc="evaluate"):
            logits = model.forward_steps(channels_last(images))
            right_by_step = right_by_step + (logits.argmax(2) == labels).sum(1)
            top5 = logits[-1].topk(min(5, logits.shape[2])).indices
            right_top5 += int((top5 == labels[:, None]).sum())
    number = batches.num_pictures
    by_step = [int(right) / number for right in torch.as_tensor(right_by_step)]
    # One seed, so a list of one: more seeds join it.
    return {
        "num_pictures": number,
        "num_steps": len(by_step),
        "top1": by_step[-1:],
        "top1_interval95": wilson_interval(by_step[-1], number),
        "top5": [right_top5 / number],
        "top5_interval95": wilson_interval(right_top5 / number, number),
        "top1_by_step": by_step,
        "activity": activity.as_dict(),
    }


if __name__ == "__main__":
    main()
