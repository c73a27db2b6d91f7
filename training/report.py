"""Cards and the README's table of models, made from the JSON beside the weights alone.

python training/report.py
"""

import json
from pathlib import Path
from typing import Any

from msr_zoo.finetune_report import card as finetuned_card
from msr_zoo.finetune_report import wilson_interval
from msr_zoo.models.tags import TAGS

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "msr_zoo" / "weights", ROOT / "hub")
BEGIN, END = "<!-- models: training/report.py -->", "<!-- end of models -->"

DATA_NOTES = {
    "CIFAR-10 (JPEG copy)": (
        "CIFAR-10 (Krizhevsky, 2009; published without a licence, for research), all 60,000 "
        "pictures in a copy that its publisher re-encoded as JPEG: figures are not comparable to "
        "the last tenth with those on the original pictures"
    ),
    "CIFAR-10 (JPEG copy), simulated events": (
        "CIFAR-10 (Krizhevsky, 2009; published without a licence, for research; JPEG copy), its "
        "pictures moving for 100 ms before a simulated camera of 48 × 48 pixels "
        "(training/simulated.py): the test split too is simulated. Thresholds, noise and motions "
        "were ranged so that events an active pixel and the share of either polarity are about "
        "those of real DVS128 recordings (dvs128-objects); nothing was trained on those"
    ),
    "Imagenette 224 px": (
        "Imagenette (fast.ai, Apache-2.0), ten classes of ImageNet, whose pictures belong to their "
        "owners and are for research"
    ),
}

FAMILIES = {
    "msresnet": (
        "MS-ResNet (Hu et al., TNNLS 2024, arXiv 2112.08954), a deep residual spiking neural "
        "network."
    ),
    "resnet_twin": (
        "The non-spiking twin of MS-ResNet: its layers with ReLU for the spiking neurons. It shows "
        "what the data and the recipe allow."
    ),
    "spiking_resnet": "A plain spiking ResNet (Zheng et al., AAAI 2021), a rival of MS-ResNet.",
    "sew_resnet": "SEW-ResNet (Fang et al., NeurIPS 2021), a rival of MS-ResNet.",
}


def write_reports() -> None:
    """Write every card, and the table between the two marks in README.md."""
    measured = _measured()
    for folder, results in measured:
        (folder / "README.md").write_text(card_of(folder, results))
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{models_table()}{END}{after}")
    print(f"README.md written, and the cards of {len(measured)} models")


def card_of(folder: Path, results: dict[str, Any]) -> str:
    """The card of a weights folder; those of fine-tuned models are written as users' are."""
    training = json.loads((folder / "training.json").read_text())
    if "provenance" in training:
        return card(results, training)
    return finetuned_card(results, training, TAGS.get(results["model"]))


def _measured() -> list[tuple[Path, dict[str, Any]]]:
    files = sorted(file for root in FOLDERS for file in root.glob("*/results.json"))
    return [(file.parent, json.loads(file.read_text())) for file in files]


def models_table() -> str:
    rows = [
        "| model | data | T | top-1 (95 % interval, samples) | spikes a neuron | energy, twin |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| `{r['model']}` | {r['data']}, {r['split']} | {r['num_steps']} | {_accuracy(r)} | "
        f"{_spikes_per_neuron(r)} | {_energy(r)} |"
        for _, r in _measured()
    ]
    return "\n".join(rows) + "\n"


def _accuracy(results: dict[str, Any]) -> str:
    """Top-1 of the tensors that are here, and the mean where other seeds were trained too."""
    number, seeds = results["num_pictures"], len(results["top1"])
    if seeds == 1:
        low, high = results["top1_interval95"]
        return f"{results['top1'][0]:.2%} ({low:.2%} – {high:.2%}, {number:,})"
    low, high = wilson_interval(results["top1"][0], number)
    mean = sum(results["top1"]) / seeds
    return (
        f"{results['top1'][0]:.2%} ({low:.2%} – {high:.2%}, {number:,}); mean of {seeds} seeds "
        f"{mean:.2%}"
    )


def _spikes_per_neuron(results: dict[str, Any]) -> str:
    return f"{results['activity']['spikes_per_neuron']:.2f}" if _spikes(results) else "–"


def _spikes(results: dict[str, Any]) -> bool:
    """Whether the network has neurons that spike, or is a twin."""
    return bool(results["activity"]["stage_rates"])


def _energy(results: dict[str, Any]) -> str:
    activity = results["activity"]
    if not _spikes(results):
        return f"{activity['energy_joules'] * 1e6:.1f} µJ"
    spiking, twin = activity["energy_joules"] * 1e6, activity["twin_energy_joules"] * 1e6
    return f"{spiking:.1f} µJ, {twin:.1f} µJ"


def card(results: dict[str, Any], training: dict[str, Any]) -> str:
    """A Hub card: what it is, data and licence, recipe, accuracy with n, rates, energy, limits."""
    name, made = results["model"], training["provenance"]
    descents = _descents(training)
    minutes = sum(epoch["seconds"] for run in descents for epoch in run["history"]) / 60
    taught = any(run["recipe"].get("teacher") for run in descents)
    alone = " (those of its teacher not counted)" if taught else ""
    settings = "; then, from the weights of that, ".join(_settings(run) for run in descents)
    parts = [part for run in descents for part in (*run.get("earlier", []), run["provenance"])]
    commits = ", then ".join(f"commit {part['commit'][:12]}" for part in parts)
    counts = sorted({part["threads"] for part in parts})
    threads = f"{' or '.join(map(str, counts))} thread{'s' if counts[-1] > 1 else ''}"
    tag = TAGS.get(name)
    digest = f"sha256 of model.safetensors: `{tag.sha256}`.\n" if tag and tag.sha256 else ""
    what = next(text for family, text in FAMILIES.items() if name.startswith(family))
    return f"""---
license: apache-2.0
library_name: msr-zoo
pipeline_tag: image-classification
tags: [spiking-neural-network, ms-resnet, msr_zoo]
---
# {name}
{what}
Trained by the msr_zoo project; not the authors' weights.

```python
import msr_zoo

model = msr_zoo.create_model("{name}", pretrained=True)
```

| | |
|---|---|
| data | {DATA_NOTES.get(results["data"], results["data"])} |
| top-1, {results["split"]} split | {_accuracy(results)}; seeds {results["seeds"]} |
| top-5 | {results["top5"][0]:.2%} |
{_activity(results)}

**Recipe.** {settings}.

**Trained** in {minutes:.0f} minutes{alone} on {made["device"]}, {threads}, \
torch {made["torch"]}, {commits}; training.json holds loss and accuracy of every
epoch. The last epoch's weights, chosen by nothing but the end of the schedule. Evaluated in float32
from the float16 tensors of this repository by `{results["command"]}`, \
commit {results["commit"][:12]}; results.json holds all of it.

**Limits.** One training run a seed, so the interval is that of the pictures, not of the training.
Meant for pictures like those of its data set; it names one of its classes for any picture at all.
The energy is a count of operations times a constant, not a measurement of a chip.
{digest}"""


def _activity(results: dict[str, Any]) -> str:
    """The rows on spikes, operations and energy of a card's table."""
    operations = results["activity"]["synaptic_operations"]
    energy = "energy a picture (4.6 pJ a MAC, 0.9 pJ an AC, 45 nm)"
    if not _spikes(results):
        return (
            f"| synaptic operations a picture | {operations['mac']:.4g} MAC |\n"
            f"| {energy} | {_energy(results)} |"
        )
    by_step = ", ".join(f"{share:.2%}" for share in results["top1_by_step"])
    rates = ", ".join(
        f"{stage} {sum(rate) / len(rate):.3f}"
        for stage, rate in results["activity"]["stage_rates"].items()
    )
    return f"""| top-1 after step 1 to {results["num_steps"]} | {by_step} |
| firing rate by stage (spikes a neuron a step) | {rates} |
| spikes a neuron a picture | {results["activity"]["spikes_per_neuron"]:.3f} |
| synaptic operations a picture | {operations["ac"]:.4g} AC and {operations["mac"]:.4g} MAC; \
the non-spiking twin {operations["twin_mac"]:.4g} MAC |
| {energy}, twin | {_energy(results)} |"""


def _descents(training: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that made the weights, each from the weights of the former."""
    before = [training["before"]] if "before" in training else []
    return [*(run for former in before for run in _descents(former)), training]


def _settings(run: dict[str, Any]) -> str:
    """A run's recipe, without the model and what is off."""
    # A crop_padding of 0 is a random resized crop, of pictures.
    kept = {"seed", "decay"}
    kept |= set() if run["recipe"]["data"] == "cifar10-events" else {"crop_padding"}
    recipe = {key: value for key, value in run["recipe"].items() if value or key in kept}
    hidden = {"model"} | (set() if "teacher" in recipe else {"teacher_weight"})
    hidden |= set() if "grown_from" in recipe else {"grown_lr"}
    hidden |= {"pretrained"} if "before" in run else set()
    hidden |= {"decay"} if recipe.get("decay", 0) < 0 else set()
    return ", ".join(f"{key} {value}" for key, value in recipe.items() if key not in hidden)


if __name__ == "__main__":
    write_reports()
