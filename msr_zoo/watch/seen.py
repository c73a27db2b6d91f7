"""What a network is given to see: a small picture, or a few events a step."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from msr_zoo.watch.marks import data_uri, frames
from msr_zoo.watch.trace import Trace

BRIGHTER, DARKER = (230, 126, 20), (58, 124, 201)  # told apart with every kind of colour vision
SIDE = 128


def seen(trace: Trace, upto: int) -> str:
    """The input as the network has it: a picture of its size, or the events of each step."""
    channels, height, width = trace.seen.shape[1:]
    small = adaptive_avg_pool2d(trace.seen, (min(height, SIDE), min(width, SIDE)))
    what = f"{width} × {height}"
    if channels == 2:
        what += " events"
        shown = frames(
            lambda step: _image(coloured(small[step - 1]), f"Events of step {step}, {what}"),
            upto,
            "span",
            upto,
        )
    else:
        pixels = (small[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        shown = _image(pixels, f"The picture as the network sees it, {what}")
    return f'<div class="mz-seen">{shown}<small>it sees {what}</small></div>'


def coloured(counts: Tensor) -> NDArray[np.uint8]:
    """Counts of darker and brighter events (2, H, W) as pixels (H, W, 4), clear where none is."""
    darker, brighter = counts.numpy()
    pixels = np.zeros((*darker.shape, 4), np.uint8)
    for count, colour in ((darker, DARKER), (brighter, BRIGHTER)):
        hit = (count > 0) & (count >= np.maximum(darker, brighter))
        pixels[hit, :3] = colour
        pixels[hit, 3] = 110 + 145 * np.minimum(1, count[hit] / 3)
    return pixels


def _image(pixels: NDArray[np.uint8], told: str) -> str:
    return f'<img alt="{told}" src="{data_uri(pixels)}">'
