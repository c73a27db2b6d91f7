"""What a layer and a whole network cost at each firing rate: silence is to be free.

    python -m benchmarks.engine_rate

One thread; milliseconds of its processor, which other work on the machine leaves alone. Writes
results/engine_rate.json and results/engine_rate.svg.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import msr_zoo
from benchmarks import engine_rate_figure, timing
from msr_zoo.bench.inputs import calibrate
from msr_zoo.bench.measure import interleaved, machine
from msr_zoo.event_blocks import _in_units
from msr_zoo.kernels import native, native_conv, packing

LAYERS = {64: 56, 128: 28, 256: 14, 512: 7}  # channels: pixels
RATES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
STEPS = 6
NETWORK = "msresnet18"


def layer(channels: int, rounds: int) -> dict[str, Any]:
    """One 3 x 3 layer with its norm and LIF, against oneDNN's convolution alone."""
    pixels = LAYERS[channels]
    torch.manual_seed(0)
    weight = torch.randn(channels, channels, 3, 3) / (1.35 * channels) ** 0.5
    norm = native_conv.Norm(scale=torch.ones(channels), shift=torch.zeros(channels))
    whole, unit = packing.quantise(weight)
    tiles, fine = packing.pack_fixed_point(weight)
    ways = {
        "events, float32": (packing.pack_weight(weight), norm),
        "events, int8": (packing.pack_weight(whole), _in_units(norm, unit)),
    }
    if native.isa() == "amx":
        ways["tiles, float32"] = (tiles, _in_units(norm, fine))
        ways["tiles, int8"] = (packing.pack_tiles(whole), _in_units(norm, unit))
    fired = native_conv.silent(STEPS, 1, pixels, pixels, channels)
    runs: dict[tuple[str, float], Callable[[], object]] = {}
    for rate in RATES:
        spikes = (torch.rand(STEPS, 1, pixels, pixels, channels) < rate).float()
        bits = torch.zeros_like(fired)
        native_conv.dense_lif(spikes, bits, decay=0.0, threshold=0.5)
        for way, (packed, scaled) in ways.items():
            runs[way, rate] = lambda bits=bits, packed=packed, scaled=scaled: native_conv.conv_lif(
                bits,
                packed,
                fired,
                lanes_in=channels,
                stride=1,
                norm=scaled,
                decay=0.25,
                threshold=0.5,
            )
    pictures = spikes[:, 0].movedim(-1, 1)
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            x, w = (v.to(dtype).contiguous(memory_format=layout) for v in (pictures, weight))
            runs[f"dense {dtype} {layout}", 0.0] = lambda x=x, w=w: F.conv2d(x, w, None, 1, 1)
    times = interleaved(runs, rounds, clock=time.process_time)
    medians = {key: statistics.median(t) for key, t in times.items()}
    dense = {
        f"dense, {name}": min(
            ms for (way, _), ms in medians.items() if way.startswith(f"dense torch.{name}")
        )
        for name in ("float32", "bfloat16")
    }
    return {
        "name": f"{channels} channels, {pixels} × {pixels}",
        "dense_ms": {name: round(ms, 3) for name, ms in dense.items()},
        "ms": {way: [round(medians[way, rate], 3) for rate in RATES] for way in ways},
    }


@torch.inference_mode()
def network(rounds: int) -> dict[str, Any]:
    """A whole network whose every layer fires at the rate, and torch's float32 beside it."""
    torch.manual_seed(1)
    x = torch.randn(1, 3, 224, 224)
    runs: dict[tuple[str, float], Callable[[], object]] = {}
    for rate in RATES:
        torch.manual_seed(0)
        model: Any = msr_zoo.create_model(NETWORK, zero_init_last=False).eval()
        calibrate(model, x, rate)
        for weights in ("float32", "int8"):
            engine = msr_zoo.EventEngine(model, weights=weights)
            runs[f"engine, {weights}", rate] = lambda engine=engine: engine(x)
    model = model.to(memory_format=torch.channels_last)
    pictures = x.contiguous(memory_format=torch.channels_last)
    runs["torch", 0.0] = lambda: model(pictures)
    medians = {
        key: statistics.median(t)
        for key, t in interleaved(runs, rounds, clock=time.process_time).items()
    }
    return {
        "name": f"whole {NETWORK}, 224 × 224",
        "dense_ms": {"torch, float32": round(medians["torch", 0.0], 3)},
        "ms": {
            way: [round(medians[way, rate], 3) for rate in RATES]
            for way in ("engine, float32", "engine, int8")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = timing.provenance("benchmarks.engine_rate", torch.device("cpu"), seeds=[0, 1])
    panels = [layer(channels, options.rounds) for channels in LAYERS]
    panels.append(network(options.rounds))
    result = {**machine(), **about, "steps": STEPS, "rounds": options.rounds, "rates": RATES}
    path = timing.write("engine_rate", {**result, "panels": panels})
    path.with_suffix(".svg").write_text(engine_rate_figure.draw(RATES, panels), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
