"""Fine-tuning on somebody's own recordings or pictures, from a folder to a weights folder."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from msr_zoo.events import Augmentation
from msr_zoo.finetune_data import Motion, Pictures, RecordedEvents, Samples, are_pictures
from msr_zoo.finetune_loop import Tuning, measure, tune
from msr_zoo.finetune_report import card, draw_confusion
from msr_zoo.finetune_split import divide
from msr_zoo.hub import check_new, halved, save_pretrained
from msr_zoo.models.tags import TAGS
from msr_zoo.pretrained import WEIGHTS_NAME, config_beside
from msr_zoo.registry import create_model, load_pretrained, model_info

__all__ = ["EVENTS", "PICTURES", "UPRIGHT_EVENTS", "Finetuned", "Tuning", "finetune"]

EVENTS = Tuning(epochs=48, early_epochs=32, lr=2e-2, patience=12)
UPRIGHT_EVENTS = Tuning(
    epochs=72, early_epochs=40, batch_size=32, lr=2e-2, average=0.99, patience=20
)
PICTURES = Tuning(epochs=10, lr=8e-3)
MOTION = Motion(
    augmentation=Augmentation(
        shift=10, flip=True, reverse=True, swap_polarity=True, rotate=180, scale=0.3, thin=0.5
    )
)
UPRIGHT = Motion(
    augmentation=Augmentation(
        shift=2, rotate=15, scale=0.2, shear=0.3, spread=1.0, drop_area=0.4, drop_time=0.3, thin=0.4
    )
)
NUM_STEPS, SIDE = 2, 48  # of event frames, unless other steps are asked for


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, what it scored on what it was not trained on, and where it lies."""

    model: nn.Module
    classes: tuple[str, ...]
    accuracy: float
    interval: tuple[float, float]
    confusion: tuple[tuple[int, ...], ...]
    folder: Path
    results: dict[str, Any] = field(repr=False)


def finetune(
    root: str | Path,
    *,
    out: str | Path | None = None,
    model: str | None = None,
    pretrained: bool = True,
    upright: bool = False,
    test: str | None = None,
    by_time: bool = False,
    window_us: int | None = None,
    num_steps: int | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> Finetuned:
    """Fine-tune a model on the folders in `root`, test it, and write a weights folder.

    `root` holds <class>/<file> or <session>/<class>/<file>, event recordings or pictures. One
    session is tested on, `test` or else the last by name, or a fifth of each class's files where
    there are no sessions, or with `by_time` the end of every recording. `model` is a name or a
    weights folder (default: msresnet20_dvs, or msresnet20.cifar10 for pictures); it starts from its
    weights, or with `pretrained` False from random ones. With `upright` nothing is turned far or
    mirrored in training, as for digits. Recordings are cut into windows of `window_us` (default:
    100 ms, or whole if they last less than a second), and windows into `num_steps` frames (default:
    2; of pictures, the model's own). `out` is new or empty (default: a folder here named after
    model and `root`). `changes` are other values for fields of the recipe, `EVENTS`,
    `UPRIGHT_EVENTS` or `PICTURES`; `report` gets a line for every epoch.

    Raises ValueError, or OSError, for data or a model that cannot be used; nothing is written then.
    """
    root, report = Path(root), report or (lambda line: None)
    pictures = are_pictures(root)
    name = model or ("msresnet20.cifar10" if pictures else "msresnet20_dvs")
    recipe = PICTURES if pictures else UPRIGHT_EVENTS if upright else EVENTS
    recipe = recipe.changed(changes or {})
    arch = Path(name).resolve().name.partition(".")[0]
    folder = Path(out or f"{arch}.{root.resolve().name}")
    if not out and folder.name in TAGS:
        raise ValueError(f"{folder} is the name of published weights: name another folder (out)")
    check_new(folder)
    _check_names(root.resolve().name, folder.resolve().name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory(prefix="msr_zoo-") as cache:
        start = time.perf_counter()
        network, started = _network(name, pictures, pretrained, num_steps, seed, report)
        data: Samples
        if pictures:
            data = Pictures(root, network, mirror=not upright)
        else:
            try:
                data = RecordedEvents(
                    root,
                    num_steps=network.num_steps,
                    side=SIDE,
                    window_us=window_us,
                    motion=UPRIGHT if upright else MOTION,
                    cache=Path(cache),
                )
            except ImportError as error:  # of a package that some formats need
                raise ValueError(f"{root}: {error}") from error
        _check_names(*data.classes, *{sample.session or "" for sample in data.samples})
        split = divide(data.samples, data.classes, test=test, by_time=by_time, seed=seed)
        _adapt(network, data)
        reading = time.perf_counter() - start
        report(
            f"{len(split.train)} samples of {len(data.classes)} classes to train on, "
            f"{len(split.stop)} to tell when to stop, {len(split.test)} to test on ({split.how})"
        )
        history = tune(
            network.to(device), data, split, recipe, pretrained=started, seed=seed, report=report
        )
        # What is measured is what is stored.
        tensors = network.state_dict()
        rounded = {key: value.float() for key, value in halved(network, tensors).items()}
        network.load_state_dict({**tensors, **rounded})
        results = {
            "model": folder.resolve().name,
            "data": root.resolve().name,
            "split": split.how,
            **measure(network, data, split.test),
            "seeds": [seed],
        }
    training = {
        "recipe": {
            "model": name,
            "pretrained": started,
            "upright": upright,
            "num_steps": network.num_steps,
            "window_us": data.events.window_us if data.events else None,
            **asdict(recipe),
            "seed": seed,
        },
        "samples": {"train": len(split.train), "stop": len(split.stop), "test": len(split.test)},
        "seconds": {"reading": reading, "all": time.perf_counter() - start},
        "history": history,
    }
    save_pretrained(
        network,
        folder,
        card=card(results, training),
        events=data.events,
        files={
            "confusion.png": draw_confusion(results["confusion"], data.classes),
            "results.json": (json.dumps(results, indent=1) + "\n").encode(),
            "training.json": (json.dumps(training, indent=1) + "\n").encode(),
        },
    )
    network.pretrained_cfg["file"] = str(folder / WEIGHTS_NAME)
    network._config = config_beside(folder)  # tells a Predictor the windows of recordings
    return Finetuned(
        model=network,
        classes=tuple(data.classes),
        accuracy=results["top1"][0],
        interval=results["top1_interval95"],
        confusion=tuple(map(tuple, results["confusion"])),
        folder=folder,
        results=results,
    )


def _check_names(*names: str) -> None:
    """Raise ValueError for a name that no text file, such as the card, can hold."""
    for name in names:
        if os.fsencode(name).decode(errors="replace") != name:
            raise ValueError(f"the folder {os.fsencode(name)!r} is not named in UTF-8: rename it")


def _network(
    name: str,
    pictures: bool,
    pretrained: bool,
    num_steps: int | None,
    seed: int,
    report: Callable[[str], None],
) -> tuple[Any, bool]:
    """A model for pictures or event frames, with its weights where it has any; and if it has."""
    channels: dict[str, Any] = {"in_chans": 3 if pictures else 2}
    if num_steps is not None or not pictures:
        channels["num_steps"] = NUM_STEPS if num_steps is None else num_steps
    registered = ":" not in name and os.sep not in name and not Path(name).is_dir()
    if registered and pretrained and not model_info(name).has_weights:
        report(f"there are no weights of {name} to start from, so it learns from nothing")
        pretrained = False
    if not pretrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return create_model(name, **channels), False
    return load_pretrained(name, **channels), True


def _adapt(network: Any, data: Samples) -> None:
    """Give a model a new head for these classes, and say in its configuration what it takes."""
    network.reset_classifier(len(data.classes))
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    cfg = network.pretrained_cfg
    for key in ("tag", "license"):  # of the weights that it started from
        cfg.pop(key, None)
    cfg.update(num_classes=len(data.classes), label_names=tuple(data.classes))
    if data.events is not None:
        size = (2, *data.events.size)
        cfg.update(input_size=size, mean=(0.0, 0.0), std=(1.0, 1.0), pool_size=None)
