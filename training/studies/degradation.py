"""Does a deeper network train worse? Four networks, by depth, one recipe; JSON and a figure.

    python training/studies/degradation.py --reduced
    python training/studies/degradation.py --schedule 40x4 --max-minutes 9

Every run is one of training/train.py, so the same command goes on where it was interrupted, and
what is not an option here is one of train.py's recipe. `--reduced` is the plan for two CPU cores:
fewer and smaller pictures, fewer epochs and steps. The JSON holds the runs that are finished.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import msr_zoo
from data import TEST_SPLITS, find_sources
from pictures import NoPicturesError, Pictures, open_pictures
from provenance import provenance
from recipes import Recipe
from studies.degradation_figure import draw
from studies.runs import finished
from whole import write_whole

RESULTS = Path(__file__).parents[1] / "results"
NETWORKS = {
    "MS-ResNet": "msresnet",
    "spiking ResNet": "spiking_resnet",
    "SEW-ResNet": "sew_resnet",
    "ReLU twin": "resnet_twin",
}
# The paper's, with a warm-up: He et al. (CVPR 2016) needed one for their ResNet-110.
RECIPE = ["paper-cifar10", "--warmup-epochs", "1"]
# The order is that of what is wanted first if time runs out.
DEPTHS = [20, 110, 56, 32]
REDUCED_DEPTHS = [20, 110, 56]
REDUCED = ["--schedule", "8x1", "--crop-padding", "2"]
REDUCED_TRAIN, REDUCED_TEST, REDUCED_SIZE = 6_000, 2_000, 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reduced", action="store_true", help="the plan for two CPU cores")
    parser.add_argument("--depths", type=int, nargs="+", help="20 … 482")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", default="cifar10", help="a name or path that data.py knows")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints")
    parser.add_argument(
        "--out", type=Path, help="default: results/degradation.json, or degradation_whole.json"
    )
    parser.add_argument(
        "--max-minutes", type=float, default=math.inf, help="save and end after so many minutes"
    )
    options, recipe = parser.parse_known_args()
    # What either plan has measured is kept.
    name = "degradation.json" if options.reduced else "degradation_whole.json"
    options.out = options.out or RESULTS / name
    ends = time.monotonic() + 60 * options.max_minutes
    folder = options.runs / ("degradation-reduced" if options.reduced else "degradation")
    try:
        data = smaller_pictures(options.data, folder) if options.reduced else options.data
    except ValueError as error:
        parser.error(str(error))
    recipe = [*RECIPE, *(REDUCED if options.reduced else []), *recipe, "--data", str(data)]

    depths = options.depths or (REDUCED_DEPTHS if options.reduced else DEPTHS)
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        for depth in depths:
            for label, family in NETWORKS.items():
                name = f"{family}{depth}"
                model = smaller_model(name, folder) if options.reduced else name
                out = folder / f"{name}-{seed}"
                arguments = [*recipe, "--model", model, "--seed", str(seed), "--out", str(out)]
                saved = finished(arguments, out, ends)
                if saved is None:
                    print("stopped; the same command goes on")
                    return
                runs.append(record(label, depth, seed, saved))
                write(options, runs)
                print(one_line(runs[-1]), flush=True)


def smaller_pictures(data: str, folder: Path) -> Path:
    """Write the first pictures of each class, shrunk, as folders of PNG; as many of each class."""
    sources = find_sources(data)
    whole = folder / "pictures"
    if whole.exists():
        return whole
    part = folder / "pictures.part"
    for split, names, number in (
        ("train", ("train",), REDUCED_TRAIN),
        ("test", TEST_SPLITS, REDUCED_TEST),
    ):
        pictures = _opened(sources, names)
        for label, name in enumerate(pictures.classes):
            chosen = (pictures.labels == label).nonzero()[0][: number // len(pictures.classes)]
            into = part / split / name
            into.mkdir(parents=True, exist_ok=True)
            images = torch.from_numpy(pictures.images[chosen]).permute(0, 3, 1, 2).float()
            small = F.interpolate(images, (REDUCED_SIZE,) * 2, mode="bilinear", antialias=True)
            for i, pixels in enumerate(small.round().byte().permute(0, 2, 3, 1).numpy()):
                Image.fromarray(pixels).save(into / f"{i:04}.png")
    os.replace(part, whole)
    return whole


def _opened(sources: list[Path], splits: tuple[str, ...]) -> Pictures:
    for split in splits[:-1]:
        try:
            return open_pictures(sources, split)
        except NoPicturesError:
            continue
    return open_pictures(sources, splits[-1])


def smaller_model(name: str, folder: Path) -> str:
    """The name of the same network for small pictures: a folder with no more than its config."""
    config = folder / name / "config.json"
    if not config.exists():
        cfg: Any = msr_zoo.create_model(name).pretrained_cfg
        size = {"input_size": [3, REDUCED_SIZE, REDUCED_SIZE], "pool_size": [REDUCED_SIZE // 4] * 2}
        keys = ("mean", "std", "crop_pct", "interpolation", "first_conv", "classifier")
        wanted = {**{key: cfg[key] for key in keys}, **size, "num_classes": 10}
        config.parent.mkdir(parents=True, exist_ok=True)
        text = {"architecture": name, "num_classes": 10, "pretrained_cfg": wanted}
        config.write_text(json.dumps(text, indent=1) + "\n")
    return f"local-dir:{config.parent}"


def record(network: str, depth: int, seed: int, saved: dict[str, Any]) -> dict[str, Any]:
    history = saved["history"]
    return {
        "network": network,
        "depth": depth,
        "seed": seed,
        "train_top1": history[-1]["train_top1"],
        "test_top1": history[-1]["top1"],
        "history": history,
        "recipe": saved["recipe"],
        "provenance": saved["provenance"],
    }


def write(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    recipe = Recipe(**runs[-1]["recipe"])
    about = f"{recipe.epochs} epochs, T = {recipe.num_steps} (twin: none)"
    if options.reduced:
        about = (
            f"reduced: {REDUCED_TRAIN:,} training and {REDUCED_TEST:,} test pictures of "
            f"{REDUCED_SIZE} px, {about}"
        )
    results = {
        "what": "top1 is that of the test pictures after each epoch; train_top1 that of the "
        "augmented training pictures while the epoch passed",
        "data": "CIFAR-10 (JPEG copy)" if options.data == "cifar10" else options.data,
        "plan": about,
        "reduced": options.reduced,
        "seeds": sorted({run["seed"] for run in runs}),
        "n": len({run["seed"] for run in runs}),
        "command": " ".join(["python", *sys.argv]),
        **provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "runs": runs,
    }
    write_whole(options.out, json.dumps(results) + "\n")
    write_whole(options.out.with_suffix(".svg"), draw(results))


def one_line(run: dict[str, Any]) -> str:
    return (
        f"{run['network']} {run['depth']}: training {run['train_top1']:.2%}, "
        f"test {run['test_top1']:.2%}"
    )


if __name__ == "__main__":
    main()
