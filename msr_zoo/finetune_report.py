"""What is known of a fine-tuned model: its accuracy with its interval, a picture, its card."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from msr_zoo.models.tags import Tag

MARGIN, LABEL = 16, 132
SMALLEST, LARGEST, MOST = 8, 56, 1600  # px of a cell, and of all of them
LEGIBLE = 28  # px of a cell that holds a number
PAPER, INK, FULL = (255, 255, 255), (40, 40, 40), (24, 92, 160)


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """95 % interval of a share of `number` trials (Wilson, JASA 1927)."""
    z = 1.96
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    spread = z / (1 + z * z / number)
    spread *= math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return centre - spread, centre + spread


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """A PNG of a confusion matrix: a row a true class, a column a predicted one."""
    number = len(classes)
    cell = max(SMALLEST, min(LARGEST, MOST // number))
    left, top = MARGIN + LABEL, MARGIN + LABEL
    canvas = Image.new("RGB", (left + cell * number + MARGIN,) * 2, PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    names = [_fitting(name, font) for name in classes]
    heads = Image.new("RGB", (cell * number, LABEL), PAPER)
    for i, name in enumerate(names):
        strip = Image.new("RGB", (LABEL, cell), PAPER)
        ImageDraw.Draw(strip).text((4, cell / 2), name, fill=INK, font=font, anchor="lm")
        heads.paste(strip.rotate(90, expand=True), (cell * i, 0))
        middle = top + cell * i + cell / 2
        draw.text((left - 6, middle), name, fill=INK, font=font, anchor="rm")
    canvas.paste(heads, (left, MARGIN))
    draw.text((MARGIN, MARGIN), "true in rows,\nnamed in columns", fill=INK, font=font)
    for row, counts in enumerate(confusion):
        total = max(sum(counts), 1)
        for column, count in enumerate(counts):
            share = count / total
            x, y = left + cell * column, top + cell * row
            colour = tuple(round(p + (f - p) * share) for p, f in zip(PAPER, FULL, strict=True))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=colour, outline=(225, 225, 225))
            ink = PAPER if share > 0.5 else INK
            centre = (x + cell / 2, y + cell / 2)
            if cell >= LEGIBLE:
                draw.text(centre, str(count), fill=ink, font=font, anchor="mm")
    file = io.BytesIO()
    canvas.quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


def _fitting(name: str, font: Any) -> str:
    if font.getlength(name) <= LABEL - 10:
        return name
    while font.getlength(f"{name}…") > LABEL - 10:
        name = name[:-1]
    return f"{name}…"


def accuracy(results: Mapping[str, Any]) -> str:
    """The mean of the seeds' accuracies, the interval, and the number of samples."""
    low, high = results["top1_interval95"]
    top1 = sum(results["top1"]) / len(results["top1"])
    return f"{top1:.2%} ({low:.2%} – {high:.2%}, {results['num_pictures']:,})"


def card(results: Mapping[str, Any], training: Mapping[str, Any], tag: Tag | None = None) -> str:
    """A Hub card of a fine-tuned model, from what results.json and training.json hold.

    `tag` is that of weights which this project publishes.
    """
    name, recipe, activity = results["model"], training["recipe"], results["activity"]
    source = name if tag else f"local-dir:{name}"
    operations, counts = activity["synaptic_operations"], training["samples"]
    energy, twin = activity["energy_joules"] * 1e6, activity["twin_energy_joules"] * 1e6
    by_step = ", ".join(f"{share:.2%}" for share in results["top1_by_step"])
    rates = ", ".join(
        f"{stage} {sum(rate) / len(rate):.3f}" for stage, rate in activity["stage_rates"].items()
    )
    settings = ", ".join(f"{key} {value}" for key, value in recipe.items() if key != "model")
    return f"""---
{"license: apache-2.0" + chr(10) if tag else ""}library_name: msr-zoo
pipeline_tag: image-classification
tags: [spiking-neural-network, ms-resnet, msr_zoo]
---
# {name}
MS-ResNet (Hu et al., TNNLS 2024, arXiv 2112.08954), a deep residual spiking neural network,
fine-tuned from {"" if recipe["pretrained"] else "random weights of "}`{recipe["model"]}` by \
`msr-zoo finetune`. It tells apart:
{", ".join(results["classes"])}.

```python
import msr_zoo

model = msr_zoo.create_model("{source}", pretrained=True)
```

![Confusion matrix](confusion.png)

| | |
|---|---|
| data | {results.get("data_note", results["data"])} |
| tested on | {results["split"]}: {results["num_pictures"]:,} samples of \
{results["num_files"]} files |
| top-1 | {accuracy(results)}{_of_seeds(results)} |
| files right, by the mean of their samples' probabilities | \
{results["files_right"]} of {results["num_files"]} |
| top-1 after step 1 to {results["num_steps"]} | {by_step} |
| firing rate by stage (spikes a neuron a step) | {rates} |
| spikes a neuron a sample | {activity["spikes_per_neuron"]:.3f} |
| synaptic operations a sample | {operations["ac"]:.4g} AC and {operations["mac"]:.4g} MAC; \
the non-spiking twin {operations["twin_mac"]:.4g} MAC |
| energy a sample (4.6 pJ a MAC, 0.9 pJ an AC, 45 nm), twin | {energy:.1f} µJ, {twin:.1f} µJ |

**Recipe.** {settings}.
{counts["train"]:,} samples to train on, {counts["stop"]:,} to tell when to stop; \
{training["seconds"]["all"]:.0f} s in all, {training["seconds"]["reading"]:.1f} s of it to read the
files. training.json holds every epoch. Measured in float32 with the tensors as they are stored.
{_made(results)}
**Limits.** The interval takes samples for independent of each other. Samples out of one file are
alike, so it is too narrow where there are few files, and it says nothing of other days and places.
The model names one of its classes for anything at all. The energy is a count of operations times a
constant, not a measurement of a chip.
{f"sha256 of model.safetensors: `{tag.sha256}`." + chr(10) if tag else ""}"""


def _of_seeds(results: Mapping[str, Any]) -> str:
    """Which seeds a mean is of; the tensors, and all other figures, are the first one's."""
    if len(results["seeds"]) == 1:
        return f"; seed {results['seeds'][0]}"
    each = ", ".join(f"{share:.2%}" for share in results["top1"])
    return (
        f", mean of seeds {', '.join(map(str, results['seeds']))}: {each}; the tensors and what "
        f"follows are seed {results['seeds'][0]}'s"
    )


def _made(results: Mapping[str, Any]) -> str:
    """The command and the commit, where a script of this project made the weights."""
    if "commit" not in results:
        return ""
    return (
        f"Made by `{results['command']}` on {results['device']}, {results['threads']} threads, "
        f"torch {results['torch']}, commit {results['commit'][:12]}. {results.get('remark', '')}\n"
    )
