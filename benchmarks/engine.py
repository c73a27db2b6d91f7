"""The event-driven engine beside the dense convolutions, and what a layer costs at each rate."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import msr_zoo
from benchmarks import timing
from msr_zoo.kernels import native, native_conv
from msr_zoo.models.ms_resnet import MSResNet

NETWORKS = {  # pixels, batch
    "msresnet18": (224, 1),
    "msresnet34": (224, 1),
    "msresnet20": (32, 32),
    "msresnet110": (32, 32),
}
LAYERS = {16: 32, 32: 16, 64: 56, 128: 28, 256: 14, 512: 7}  # channels: pixels
RATES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
STEPS = 6


def interleaved(
    contestants: dict[str, Callable[[], object]], rounds: int
) -> dict[str, dict[str, float]]:
    """Milliseconds of the processors and of the clock, contestants taking turns.

    Processor time holds on a machine that does other work too; with one thread it is what counts.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for i in range(rounds + 1):
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if i:  # the first round warms up
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: {
            "cpu_median_ms": round(1e3 * statistics.median(cpu for cpu, _ in t), 3),
            "wall_median_ms": round(1e3 * statistics.median(wall for _, wall in t), 3),
            "n": len(t),
        }
        for name, t in times.items()
    }


def calibrated(name: str, x: Tensor, rate: float) -> MSResNet:
    """A network whose every LIF fires at `rate` for x: one shift a layer does it."""
    torch.manual_seed(0)
    model: MSResNet = msr_zoo.create_model(name, zero_init_last=False).eval()
    norms: dict[nn.Module, nn.Module] = {}  # the batch norm that a LIF's input ends with
    before = model.stem[-1]
    for stage in model.stages:
        for block in model.get_submodule(stage).children():
            norms[block.lif1], norms[block.lif2], before = before, block.bn1, block.bn2
    norms[model.lif] = before

    def shift(lif: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # What is constant in time is one slab seen at every step.
        current = inputs[0] if inputs[0].stride(0) else inputs[0][:1]
        low, high = -8.0, 8.0
        for _ in range(12):
            middle = (low + high) / 2
            # The sum along the shortcut moves with its last summand, so the addition is in place.
            fires = float(lif.forward(inputs[0] + middle).mean())
            low, high = (low, middle) if fires > rate else (middle, high)
        current.add_(middle)
        norms[lif].bias.add_(middle)

    with torch.no_grad():
        hooks = [lif.register_forward_pre_hook(shift) for lif in norms]
        model(x)
    for hook in hooks:
        hook.remove()
    return model


Call = tuple[nn.Conv2d, torch.Size]


def calls_of(model: MSResNet, x: Tensor) -> list[Call]:
    """Every convolution and the shape of its input; steps are folded into the batch."""
    calls: list[Call] = []
    hooks = [
        module.register_forward_pre_hook(lambda conv, inputs: calls.append((conv, inputs[0].shape)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return calls


def convolutions(
    calls: list[Call], batch: int, dtype: torch.dtype, layout: torch.memory_format, one_step: bool
) -> Callable[[], None]:
    """The bare convolutions and nothing between them, at all steps or at one."""
    inputs: dict[tuple[int, ...], Tensor] = {}
    prepared = []
    for conv, shape in calls:
        size = (batch if one_step else shape[0], *shape[1:])
        if size not in inputs:
            pictures = (torch.rand(size) < 0.15).to(dtype)
            inputs[size] = pictures.contiguous(memory_format=layout)
        weight = conv.weight.detach().to(dtype).contiguous(memory_format=layout)
        prepared.append((inputs[size], weight, conv.stride, conv.padding))

    def run() -> None:
        for pictures, weight, stride, padding in prepared:
            F.conv2d(pictures, weight, None, stride, padding)

    return run


def network(name: str, rate: float, rounds: int) -> dict[str, Any]:
    pixels, batch = NETWORKS[name]
    torch.manual_seed(1)
    x = torch.randn(batch, 3, pixels, pixels)
    model = calibrated(name, x, rate)
    engine = msr_zoo.EventEngine(model)
    calls = calls_of(model, x)
    contestants: dict[str, Callable[[], object]] = {
        "engine": lambda: engine(x),
        "torch": lambda: model(x),
    }
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            for one_step in (False, True):
                steps = "one_step" if one_step else "all_steps"
                label = f"convolutions {steps} {dtype} {layout}".replace("torch.", "")
                contestants[label] = convolutions(calls, batch, dtype, layout, one_step)
    times = interleaved(contestants, rounds)
    rates = [float(rate.mean()) for rate in engine.activity.values()]

    def faster(steps: str, dtype: str) -> dict[str, float]:
        of = [v for k, v in times.items() if k.startswith(f"convolutions {steps} {dtype}")]
        return min(of, key=lambda v: v["cpu_median_ms"])

    return {
        "pixels": pixels,
        "batch": batch,
        "mean_rate": round(sum(rates) / len(rates), 4),
        "same_top1": float((engine(x).argmax(1) == model(x).argmax(1)).float().mean()),
        "engine_to": {
            f"convolutions {steps} {dtype}": {
                which: round(times["engine"][which] / faster(steps, dtype)[which], 3)
                for which in ("cpu_median_ms", "wall_median_ms")
            }
            for steps in ("all_steps", "one_step")
            for dtype in ("float32", "bfloat16")
        },
        "times": times,
    }


def layer(channels: int, rounds: int) -> dict[str, Any]:
    """One 3 x 3 layer, event-driven against the faster layout of the dense one."""
    pixels = LAYERS[channels]
    torch.manual_seed(0)
    weight = torch.randn(channels, channels, 3, 3) / (1.35 * channels) ** 0.5
    packed = native_conv.pack_weight(weight)
    ones = native_conv.Norm(scale=torch.ones(channels), shift=torch.zeros(channels))
    fired = native_conv.silent(STEPS, 1, pixels, pixels, channels)
    contestants: dict[str, Callable[[], object]] = {}
    for rate in RATES:
        spikes = (torch.rand(STEPS, 1, pixels, pixels, channels) < rate).float()
        bits = torch.zeros_like(fired)
        native_conv.dense_lif(spikes, bits, decay=0.0, threshold=0.5)
        contestants[f"rate {rate}"] = lambda bits=bits: native_conv.conv_lif(
            bits,
            packed,
            fired,
            lanes_in=channels,
            stride=1,
            norm=ones,
            decay=0.25,
            threshold=0.5,
        )
    pictures = spikes[:, 0].movedim(-1, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        x, w = (v.contiguous(memory_format=layout) for v in (pictures, weight))
        contestants[f"dense {layout}"] = lambda x=x, w=w: F.conv2d(x, w, None, 1, 1)
    times = interleaved(contestants, rounds)
    dense = min(v["cpu_median_ms"] for k, v in times.items() if k.startswith("dense"))
    return {
        "pixels": pixels,
        "steps": STEPS,
        "to_dense": {str(r): round(times[f"rate {r}"]["cpu_median_ms"] / dense, 3) for r in RATES},
        "times": times,
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.15)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    args = parser.parse_args()
    result = timing.provenance("benchmarks.engine", torch.device("cpu"))
    result["instructions"] = native.isa()
    for threads in args.threads:
        torch.set_num_threads(threads)
        result[f"threads {threads}"] = {
            "networks": {name: network(name, args.rate, args.rounds) for name in args.networks},
            "layers": {str(c): layer(c, args.rounds) for c in LAYERS} if threads == 1 else {},
        }
    print(timing.write("engine", result))


if __name__ == "__main__":
    main()
