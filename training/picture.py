"""Draw the spikes of a model for the example picture: the picture at the head of the README.

python training/picture.py msr_zoo/weights/msresnet20.cifar10 --out training/results/spikes.png
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import msr_zoo
from msr_zoo.predict import EXAMPLE

CHANNELS = 16  # small multiples in a cell, four by four
CELL, GAP, LABEL, HEAD = 132, 8, 132, 40
PAPER, INK, SILENT, SPIKE = (255, 255, 255), (40, 40, 40), (26, 32, 54), (255, 196, 61)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a weights folder")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    model = msr_zoo.create_model(f"local-dir:{options.folder}", pretrained=True)
    result = msr_zoo.Predictor(model)(EXAMPLE, keep_spikes=True)
    rates = result.activity.rates
    # The first neurons of each stage, and those before the head.
    layers = [name for name in rates if name.endswith(".0.lif1") or name == "lif"]
    steps = len(rates[layers[0]])

    width = 2 * LABEL + GAP + steps * (CELL + GAP) + GAP
    canvas = Image.new("RGB", (width, HEAD + len(layers) * (CELL + GAP)), PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    picture = Image.open(EXAMPLE).convert("RGB").resize((LABEL - GAP, LABEL - GAP))
    canvas.paste(picture, (GAP, HEAD))
    for line, (label, probability) in enumerate(list(result.labels.items())[:3]):
        text = f"{label} {probability:.0%}"
        draw.text((GAP, HEAD + LABEL + 18 * line), text, fill=INK, font=font)
    for step in range(steps):
        left = 2 * LABEL + GAP + step * (CELL + GAP)
        draw.text((left, GAP), f"step {step + 1}", fill=INK, font=font)
    for row, name in enumerate(layers):
        top = HEAD + row * (CELL + GAP)
        draw.text((LABEL + GAP, top), name, fill=INK, font=font)
        spikes = result.activity.spikes(name)[:, 0, :CHANNELS].numpy()
        for step in range(steps):
            left = 2 * LABEL + GAP + step * (CELL + GAP)
            canvas.paste(tile(spikes[step]), (left, top))
            text = f"{float(rates[name][step]):.2f}"
            corner = (left, top + CELL - 18)
            draw.rectangle(draw.textbbox(corner, text, font=font), fill=SILENT)
            draw.text(corner, text, fill=PAPER, font=font)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(64).save(options.out, optimize=True)
    print(f"{options.out}: {', '.join(layers)}")


def tile(spikes: NDArray[np.bool_]) -> Image.Image:
    """Spike maps (16, H, W) as small multiples, one colour a spike."""
    padded = np.pad(spikes, ((0, 0), (1, 0), (1, 0)))
    channels, height, width = padded.shape
    grid = padded.reshape(4, channels // 4, height, width).swapaxes(1, 2).reshape(4 * height, -1)
    colours = np.array([SILENT, SPIKE], dtype=np.uint8)[grid.astype(int)]
    return Image.fromarray(colours).resize((CELL, CELL), Image.Resampling.NEAREST)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
