"""Batches through timm's readers and loader: pictures of many sizes, shards, Hugging Face data."""

import importlib.util
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timm.data import create_dataset, create_loader
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from recipes import Recipe
from seeds import seeded

# How timm names a reader, and the package that it needs: wds/FOLDER, hfds/NAME_OR_FOLDER.
PACKAGES = {"wds": "webdataset", "hfds": "datasets"}


def is_named(data: str) -> bool:
    """Whether `data` names one of timm's readers rather than a file or folder."""
    return data.partition("/")[0] in PACKAGES and "/" in data


class TimmBatches:
    """Batches of one split through timm, cut to the model's size.

    `data` is a folder of class folders, wds/ and a folder of webdataset shards with timm's
    _info.json, or hfds/ and what datasets.load_dataset takes. Shards hold class numbers (.cls),
    named by a line each in classes.txt beside them; without it they are those of the model's `cfg`.
    Of `splits` the first that exists is taken; ValueError says that none does. Order, crops and
    flips depend on seed, epoch and the number of processors alone, so an epoch that begins with
    its batch `first` has the rest of the same batches; it reads those before once more.
    """

    def __init__(
        self,
        recipe: Recipe,
        cfg: dict[str, Any],
        data: str,
        splits: tuple[str, ...],
        train: bool,
        device: torch.device,
        rank: int,
        world: int,
    ) -> None:
        self.device, self.data = device, data
        self.seed = (recipe.seed, rank)
        batch_size = recipe.batch_size // world
        self.dataset, self.split = _open(data, splits, train, batch_size, recipe.seed)
        reader = self.dataset.reader
        workers = max(1, processors() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        self.num_pictures = len(self.dataset)
        self.classes = tuple(reader.class_to_idx)
        if data.startswith("wds/"):
            # A reader's length is rounded to its workers, and a shard is read by one of them.
            self.num_pictures = reader.num_samples
            workers = min(workers, len(reader.split_info.filenames) // world)
            if not workers:
                raise ValueError(f"{data}: fewer shards than the {world} processes")
            names = Path(reader.root) / "classes.txt"
            self.classes = (
                tuple(names.read_text().split("\n")[:-1])
                if names.exists()
                else tuple(map(str, range(cfg["num_classes"])))
            )
        self.loader = create_loader(
            self.dataset,
            input_size=cfg["input_size"],
            batch_size=batch_size,
            is_training=train,
            interpolation=cfg["interpolation"],
            mean=cfg["mean"],
            std=cfg["std"],
            crop_pct=cfg["crop_pct"],
            num_workers=workers,
            distributed=world > 1,
            use_prefetcher=False,
            # Workers that stay draw on from the epoch before, which a resumed run has not had.
            persistent_workers=False,
            device=device,
        )
        if isinstance(self.loader.sampler, DistributedSampler):
            # timm leaves it at 0; processes share this order, so no rank is in it.
            self.loader.sampler.seed = recipe.seed

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        if first == len(self):
            return
        for ordered in (self.loader.sampler, self.dataset):
            if hasattr(ordered, "set_epoch"):
                ordered.set_epoch(epoch)
        # The loader and its workers draw their seeds from this one when the epoch begins.
        torch.manual_seed(seeded(*self.seed, epoch).initial_seed())
        for images, labels in islice(self.loader, first, None):
            if int(labels.max()) >= len(self.classes):
                raise ValueError(
                    f"{self.data}: a picture of class {int(labels.max())}, but there are "
                    f"{len(self.classes)}; name them all in classes.txt, a line each"
                )
            yield (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


def _open(
    data: str, splits: tuple[str, ...], train: bool, batch_size: int, seed: int
) -> tuple[Any, str]:
    """The data set of the first split that exists, and its name."""
    if not is_named(data):
        return create_dataset("", root=data, split=splits[0], is_training=train), splits[0]
    kind, _, rest = data.partition("/")
    if importlib.util.find_spec(PACKAGES[kind]) is None:
        raise ValueError(f"{data}: install the package {PACKAGES[kind]} to read it")
    if kind == "wds" and not Path(rest).is_dir():
        raise ValueError(f"no folder of shards at {rest}")
    reasons = []
    for split in splits:
        try:
            if kind == "wds":
                dataset = create_dataset(
                    "wds/",
                    root=rest,
                    split=split,
                    is_training=train,
                    batch_size=batch_size,
                    seed=seed,  # of the order of the shards, which all processes share
                )
            else:
                dataset = create_dataset(data, root=None, split=split)
        except (RuntimeError, ValueError) as error:
            reasons.append(str(error))
        else:
            return dataset, split
    raise ValueError(f"{data} has no split {' or '.join(splits)}: {reasons[-1]}")


def processors() -> int:
    """How many this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
