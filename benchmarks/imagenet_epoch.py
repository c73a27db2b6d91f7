"""Hours and memory that an epoch of ImageNet-1k would take, projected from measured steps.

    python -m benchmarks.imagenet_epoch --models msresnet18 --batch 8

A step is one of training/train.py on random pictures of 224 px that lie in memory, so the reader
must keep up: the JSON says how many pictures a second it has to deliver. An epoch is the training
pictures once, and the validation pictures once without backward.
"""

import argparse
import multiprocessing
import resource
from typing import Any

import torch

import msr_zoo
from benchmarks.timing import provenance, write
from benchmarks.training_step import add_options, milliseconds, training_step

TRAIN_PICTURES, TEST_PICTURES = 1_281_167, 50_000
SIZE = 224


def measure(
    name: str, batch: int, num_steps: int, rounds: int, precision: str, device_name: str
) -> dict[str, Any]:
    """One row, in a process of its own, whose peak of memory is then that of this model."""
    device = torch.device(device_name)
    step = training_step(name, SIZE, batch, num_steps, precision, device)
    training = milliseconds(step, rounds, device)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del step
    testing = milliseconds(
        inference(name, batch, num_steps, precision, device), max(3, rounds // 3), device
    )
    seconds = {"training": training["median_ms"] / 1000, "testing": testing["median_ms"] / 1000}
    epoch = TRAIN_PICTURES // batch * seconds["training"]
    epoch += -(-TEST_PICTURES // batch) * seconds["testing"]
    return {
        "model": name,
        "batch": batch,
        "num_steps": num_steps,
        "precision": precision,
        "training_step": training,
        "testing_step": testing,
        "pictures_per_second": round(batch / seconds["training"], 2),
        "epoch_hours": round(epoch / 3600, 3),
        "peak_gib": round(peak / 2**30, 3),
        "peak_of": "GPU tensors" if device.type == "cuda" else "the process",
    }


def inference(name: str, batch: int, num_steps: int, precision: str, device: torch.device) -> Any:
    model = msr_zoo.create_model(name, num_steps=num_steps, zero_init_last=False)
    model = model.to(device, memory_format=torch.channels_last).eval()
    pictures = torch.randn(batch, 3, SIZE, SIZE, device=device)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    autocast = torch.autocast(
        device.type, getattr(torch, precision), enabled=precision != "float32"
    )

    def step() -> None:
        with torch.inference_mode(), autocast:
            model(pictures)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["msresnet18"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--num-steps", type=int, help="T; default: the model's own")
    add_options(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.models:
        num_steps = options.num_steps or msr_zoo.create_model(name).num_steps
        given = (options.batch, num_steps, options.rounds, options.precision)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                rows.append(pool.apply(measure, (name, *given, options.device)))
            except (ValueError, RuntimeError) as error:
                parser.error(f"{name}: {error}")
        print(rows[-1], flush=True)
        about = provenance("benchmarks.imagenet_epoch", torch.device(options.device), seeds=[0])
        pictures = {"train_pictures": TRAIN_PICTURES, "test_pictures": TEST_PICTURES}
        write(options.out or "imagenet_epoch", {**about, **pictures, "rows": rows})


if __name__ == "__main__":
    main()
