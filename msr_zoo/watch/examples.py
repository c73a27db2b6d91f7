"""Things to look at that need no download: pictures, and one of them before an event camera."""

from pathlib import Path

import numpy as np
import torch

from msr_zoo.events.motion import poses, triangle
from msr_zoo.events.simulate import simulate
from msr_zoo.predict import EXAMPLE, read_picture

SIDE = 128
SACCADE_PIXELS = 12.0
DURATION_US = 300_000


def example_pictures(gradio: Path) -> list[str]:
    """Pictures to begin with: ours, and some that gradio ships in the folder it is in."""
    folder = gradio / "media_assets" / "images"
    names = ("bus.png", "lion.jpg", "cheetah1.jpg", "tower.jpg")
    return [str(EXAMPLE), *(str(folder / name) for name in names if (folder / name).is_file())]


def example_recording(folder: str | Path) -> str:
    """Write what an event camera would record of our picture, moved in a triangle, as .npz."""
    picture = read_picture(EXAMPLE).convert("L").resize((SIDE, SIDE))
    light = torch.from_numpy(np.asarray(picture) / 255)
    maps = poses(triangle(SACCADE_PIXELS, 20), (SIDE, SIDE)).double()
    events = simulate(light, maps, duration_us=DURATION_US, size=(SIDE, SIDE))
    file = Path(folder) / "moving-cat.npz"
    np.savez_compressed(
        file,
        x=events.x,
        y=events.y,
        t=events.t,
        p=events.polarity,
        width=events.width,
        height=events.height,
    )
    return str(file)
