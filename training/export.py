"""Turn a finished run into a weights folder, which is exactly a Hub repository.

    python training/export.py runs/msresnet20 --out msr_zoo/weights/msresnet20.cifar10
    python training/export.py runs/msresnet18 --out hub/msresnet18.imagenette

Weights of up to 4 MB go into the wheel, larger ones into hub/, where MSR_ZOO_MIRROR=hub finds them
by their name.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

import msr_zoo
from learned_decay import neuron_of
from msr_zoo.hub import save_pretrained
from msr_zoo.neurons import LIF
from recipes import Recipe
from simulated import event_input

WHEEL = Path(msr_zoo.__file__).parent / "weights"
# What the wheel may carry in one file, and git.
WHEEL_BYTES, GIT_BYTES = 4_000_000, 45_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder that training/train.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it is new")
    parser.add_argument(
        "--replace", action="store_true", help="put it in the place of a folder that is there"
    )
    options = parser.parse_args()
    if not (options.run / "last.pt").exists():
        parser.error(f"{options.run} holds no last.pt")
    if options.out.exists() and not options.replace:
        parser.error(f"{options.out} is there already")
    saved = torch.load(options.run / "last.pt", map_location="cpu", weights_only=True)
    recipe = Recipe(**saved["recipe"])
    if len(saved["history"]) < recipe.epochs:
        parser.error(f"{options.run} is not finished; training/train.py goes on with it")

    model: Any = msr_zoo.create_model(
        recipe.model, num_classes=len(saved["classes"]), **neuron_of(saved)
    )
    spiking = any(isinstance(module, LIF) for module in model.modules())
    # A picture passes the twin once.
    model.num_steps = recipe.num_steps if spiking else 1
    model.load_state_dict(saved["model"])
    model.pretrained_cfg["label_names"] = list(saved["classes"])
    size = stored_bytes(model)
    if options.out.resolve().parent == WHEEL.resolve() and size > WHEEL_BYTES:
        parser.error(
            f"{options.out}: {size / 1e6:.1f} MB are too many for the wheel, which takes "
            f"{WHEEL_BYTES / 1e6:g} MB a model; export to hub/{options.out.name}"
        )
    events = event_input(model.num_steps) if recipe.data == "cifar10-events" else None
    card = "Made by training/export.py.\n"
    # What the card is made from, next to what training/evaluate.py measures.
    run = {key: saved[key] for key in ("recipe", "provenance", "history")}
    if saved.get("earlier"):
        run["earlier"] = saved["earlier"]
    began_as = recipe.grown_from or (recipe.model if recipe.pretrained else "")
    path = began_as.removeprefix("local-dir:")
    before = (WHEEL / path if path == began_as else Path(path)) / "training.json"
    if began_as and before.is_file():
        run["before"] = json.loads(before.read_text())
    files = {"training.json": (json.dumps(run, indent=1) + "\n").encode()}
    new = options.out.with_name(f".{options.out.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of an export that was killed
    digest = save_pretrained(model, new, card=card, events=events, files=files)
    shutil.rmtree(options.out, ignore_errors=True)
    new.rename(options.out)
    print(f"{options.out}: num_steps {model.num_steps}, sha256 {digest}")
    if size > GIT_BYTES:
        print(
            f"model.safetensors has {size / 1e6:.0f} MB, more than the {GIT_BYTES / 1e6:g} MB that "
            "git takes: commit all of the folder but it"
        )


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the tensors on disk: float16 in convolutions and linear layers, else as they are."""
    halved = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    numbers = sum(p.numel() for module in halved for p in module.parameters())
    everything = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return everything - 2 * numbers


if __name__ == "__main__":
    main()
