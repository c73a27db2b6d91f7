"""Are the simulated events of pretraining like a real camera's? Windows of both, side by side.

    python training/studies/event_statistics.py

Reads dvs128-objects.tar.xz and cifar10-jpeg.tar.xz below $MSR_ZOO_DATA, and writes
results/event_statistics.json. Real recordings are counted on the camera's own pixels.
"""

import argparse
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import simulated
from data import find_sources
from msr_zoo.events import Window, cut, read_events, to_frames
from pictures import open_pictures
from provenance import provenance
from seeds import seeded

OUT = Path(__file__).parents[1] / "results" / "event_statistics.json"
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1024, help="moved before the camera")
    parser.add_argument("--every", type=int, default=20, help="windows between those counted")
    options = parser.parse_args()
    archive = Path(os.environ.get("MSR_ZOO_DATA", "data")) / "dvs128-objects.tar.xz"
    if not archive.exists():
        parser.error(f"no recordings at {archive} (set MSR_ZOO_DATA)")
    results = {
        "what": "windows of 100 ms: quartiles over windows; an active pixel has an event in one",
        "dvs128-objects": statistics(recorded(archive, options.every)),
        "simulated": statistics(moved(options.pictures)),
        "command": " ".join(["python", *sys.argv]),
        **provenance(torch.device("cpu")),
    }
    OUT.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({key: results[key] for key in ("dvs128-objects", "simulated")}, indent=1))


def recorded(archive: Path, every: int) -> torch.Tensor:
    """Counts (N, 2, H, W) of every so many windows of the real recordings."""
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        for path in sorted(Path(folder).rglob("*.aedat")):
            events = read_events(path)
            window = Window(duration_us=simulated.DURATION_US)
            for first, last, begin, end in cut(events.t, window)[::every].tolist():
                part = events[first:last]
                frames = to_frames(
                    part, steps=1, size=(events.height, events.width), interval=(begin, end)
                )
                counts.append(frames[0])
    return torch.stack(counts)


def moved(number: int) -> torch.Tensor:
    """Counts (N, 2, H, W) of pictures of the training split before simulated cameras."""
    pictures = open_pictures(find_sources("cifar10-events"), "train")
    chosen = torch.randperm(len(pictures.labels), generator=seeded(0))[:number]
    images, generator = torch.from_numpy(pictures.images), seeded(1)
    batches = [simulated.counted(images[few], 1, generator) for few in chosen.split(BATCH)]
    return torch.cat(batches)[:, 0]


def statistics(counts: torch.Tensor) -> dict[str, Any]:
    """Quartiles over windows (N, 2, H, W)."""
    events = counts.sum((1, 2, 3))
    active = (counts.sum(1) > 0).sum((1, 2))
    values = {
        "events an active pixel": events / active.clamp(min=1),
        "share brighter": counts[:, 1].sum((1, 2)) / events.clamp(min=1),
        "share of pixels active": active / counts[0, 0].numel(),
    }
    quartiles = {
        name: np.quantile(value.numpy(), (0.25, 0.5, 0.75)).round(3).tolist()
        for name, value in values.items()
    }
    return {"windows": len(counts), **quartiles}


if __name__ == "__main__":
    main()
