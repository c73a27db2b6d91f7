"""Turn a finished run into a weights folder, which is exactly a Hub repository.

python training/export.py runs/msresnet20 --out msr_zoo/weights/msresnet20.cifar10
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import msr_zoo
from msr_zoo.hub import save_pretrained
from recipes import Recipe


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder that training/train.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it is new")
    options = parser.parse_args()
    if not (options.run / "last.pt").exists():
        parser.error(f"{options.run} holds no last.pt")
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    saved = torch.load(options.run / "last.pt", map_location="cpu", weights_only=True)
    recipe = Recipe(**saved["recipe"])
    if len(saved["history"]) < recipe.epochs:
        parser.error(f"{options.run} is not finished; training/train.py goes on with it")

    model: Any = msr_zoo.create_model(
        recipe.model, num_steps=recipe.num_steps, num_classes=len(saved["classes"])
    )
    model.load_state_dict(saved["model"])
    model.pretrained_cfg["label_names"] = list(saved["classes"])
    digest = save_pretrained(model, options.out, card="Made by training/export.py.\n")
    # What the card is made from, next to what training/evaluate.py measures.
    run = {key: saved[key] for key in ("recipe", "provenance", "history")}
    (options.out / "training.json").write_text(json.dumps(run, indent=1) + "\n")
    print(f"{options.out}: sha256 {digest}")


if __name__ == "__main__":
    main()
