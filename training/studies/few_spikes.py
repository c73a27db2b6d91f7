"""How few spikes will do? A trained network, trained on with a penalty on its firing rate.

    python training/studies/few_spikes.py msr_zoo/weights/msresnet20.cifar10
    python training/studies/few_spikes.py FOLDER --penalties 0 0.3 1 --schedule 4x4
    python training/studies/few_spikes.py FOLDER --lr 0.002 --teacher resnet_twin20.cifar10

Each penalty is one run of training/train.py from the same weights, so the same command goes on
where it was interrupted. What is not an option here is one of train.py's recipe; another recipe
needs another folder of runs. Writes the JSON, and the figure of accuracy against spikes a neuron
and against T.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import msr_zoo
from data import open_split
from evaluate import measure
from learned_decay import neuron_of
from msr_zoo.pretrained import WEIGHTS_NAME, digest_of
from provenance import provenance
from recipes import Recipe
from studies.few_spikes_figure import draw
from studies.runs import finished
from whole import write_whole

RESULTS = Path(__file__).parents[1] / "results"
# A short warm-up and a small rate: the weights are good already.
RECIPE = ["cifar10-two-cores", "--pretrained", "true", "--warmup-epochs", "0.1", "--lr", "0.004"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, help="folder of the weights to begin with")
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.0, 0.3, 1.0, 3.0])
    parser.add_argument("--schedule", default="1x4", help="of each run")
    parser.add_argument("--data", default="cifar10", help="a name or path that data.py knows")
    parser.add_argument("--runs", type=Path, default=Path("runs/few-spikes"))
    parser.add_argument("--out", type=Path, default=RESULTS / "few_spikes.json")
    parser.add_argument(
        "--max-minutes", type=float, default=math.inf, help="save and end after so many minutes"
    )
    options, recipe = parser.parse_known_args()
    for file in ("config.json", WEIGHTS_NAME):
        if not (options.weights / file).exists():
            parser.error(f"{options.weights} is no weights folder: it has no {file}")
    ends = time.monotonic() + 60 * options.max_minutes
    sha256 = digest_of(options.weights / WEIGHTS_NAME)

    points = []
    for penalty in options.penalties:
        # Weights that came since under the same name are not those of former runs.
        out = options.runs / sha256[:8] / f"penalty-{penalty:g}"
        arguments = [*RECIPE, "--model", f"local-dir:{options.weights}", "--data", options.data]
        arguments += ["--schedule", options.schedule, "--rate-penalty", str(penalty)]
        saved = finished([*arguments, *recipe, "--out", str(out)], out, ends)
        if saved is None:
            print("stopped; the same command goes on")
            return
        points.append({"penalty": penalty, **measured(options.weights, saved)})
        write(options, sha256, saved, points)
        print(one_line(points[-1]), flush=True)


def measured(weights: Path, saved: dict[str, Any]) -> dict[str, Any]:
    """Accuracy and activity on the test split of a run's last weights, in float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(**saved["recipe"])
    model: Any = msr_zoo.create_model(
        f"local-dir:{weights}",
        num_classes=len(saved["classes"]),
        num_steps=recipe.num_steps,
        **neuron_of(saved),
    )
    model.load_state_dict(saved["model"])
    model = model.to(device, memory_format=torch.channels_last).eval()
    return measure(model, open_split(recipe, model.pretrained_cfg, train=False, device=device))


def write(
    options: argparse.Namespace, sha256: str, saved: dict[str, Any], points: list[dict[str, Any]]
) -> None:
    results = {
        "what": "the weights, trained on with `penalty` times the mean spikes a neuron a step in "
        "the loss; then accuracy after each step, and activity, on the test pictures",
        "weights": options.weights.name,
        "weights_sha256": sha256,
        "data": "CIFAR-10 (JPEG copy)" if options.data == "cifar10" else options.data,
        "recipe": {**saved["recipe"], "rate_penalty": options.penalties},
        "seeds": [saved["recipe"]["seed"]],
        "n": 1,
        "command": " ".join(["python", *sys.argv]),
        **provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "points": points,
    }
    write_whole(options.out, json.dumps(results, indent=1) + "\n")
    write_whole(options.out.with_suffix(".svg"), draw(results))


def one_line(point: dict[str, Any]) -> str:
    activity = point["activity"]
    return (
        f"penalty {point['penalty']:g}: top-1 {point['top1'][0]:.2%}, "
        f"{activity['spikes_per_neuron']:.3f} spikes a neuron, "
        f"{1e6 * activity['energy_joules']:.1f} µJ"
    )


if __name__ == "__main__":
    main()
