"""One step of training/train.py on random pictures: forward, loss, backward, optimizer."""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F

import msr_zoo
from benchmarks.timing import interleaved


def training_step(
    name: str, size: int, batch: int, num_steps: int, precision: str, device: torch.device
) -> Callable[[], None]:
    """A call that trains one step; the branches are filled, so that their neurons fire."""
    torch.backends.cudnn.benchmark = True  # as training/train.py has it
    torch.manual_seed(0)
    model = msr_zoo.create_model(name, num_steps=num_steps, zero_init_last=False)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    pictures = torch.randn(batch, 3, size, size, device=device)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(model.num_classes, (batch,), device=device)
    autocast = torch.autocast(
        device.type, getattr(torch, precision), enabled=precision != "float32"
    )

    def step() -> None:
        with autocast:
            logits = model(pictures)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=10, help="steps that are timed")
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", help="name of the JSON in results/, for another machine's")


def milliseconds(step: Callable[[], None], rounds: int, device: torch.device) -> dict[str, float]:
    """Median, least and most over so many steps, after three that warm up."""
    for _ in range(2):
        step()
    times = interleaved({"step": step}, rounds, device)["step"]
    return {key: times[key] for key in ("median_ms", "min_ms", "max_ms", "n")}
