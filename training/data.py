"""Batches for training and testing, out of memory where the pictures fit there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from augment import (
    crop_flip,
    cut_out,
    draw_centres,
    draw_seeds,
    draw_shifts,
    draw_windows,
    rand_augment,
    resized_crop,
)
from pictures import NoPicturesError, Pictures, SizesDifferError, open_pictures
from readers import TimmBatches, is_named
from recipes import Recipe
from seeds import seeded
from simulated import SimulatedEvents

# Data sets known by a name: the files that hold them, below $MSR_ZOO_DATA.
SOURCES = {
    "cifar10": ["cifar10-jpeg.tar.xz"],
    "cifar10-events": ["cifar10-jpeg.tar.xz"],
    "imagenette": [f"imagenette-224-{part}.tar" for part in ("train-0", "train-1", "val")],
    "imagenet": ["imagenet"],
}
# What the data set calls the split that accuracy is measured on.
TEST_SPLITS = ("test", "val", "validation")


class Batches(Protocol):
    """One split: normalised pictures (B, C, H, W) or event frames (B, T, 2, H, W), and labels (B,).

    Each process has its share of them. `split` is what the data set calls it.
    """

    split: str
    classes: tuple[str, ...]
    num_pictures: int

    def __len__(self) -> int: ...
    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


def channels_last(images: Tensor) -> Tensor:
    """Lay pictures out as convolutions run fastest; the model does it for event frames itself."""
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def find_sources(data: str) -> list[Path]:
    """The files of a named data set, or the given path; ValueError says what is missing."""
    root = Path(os.environ.get("MSR_ZOO_DATA", "data"))
    paths = [root / file for file in SOURCES[data]] if data in SOURCES else [Path(data)]
    for path in paths:
        if not path.exists():
            hint = " (set MSR_ZOO_DATA to the folder that holds it)" if data in SOURCES else ""
            raise ValueError(f"no data at {path}{hint}")
    return paths


def open_split(
    recipe: Recipe,
    cfg: dict[str, Any],
    *,
    train: bool,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Batches of a recipe's data, cropped, flipped and normalised as the model's `cfg` asks."""
    splits = ("train",) if train else TEST_SPLITS
    sizes = [phase.size for phase in recipe.phases() if phase.size]
    if is_named(recipe.data):
        _refuse_changes(recipe, recipe.data, sizes)
        return TimmBatches(recipe, cfg, recipe.data, splits, train, device, rank, world)
    sources = find_sources(recipe.data)
    if recipe.crop_padding and max(sizes, default=0) > min(cfg["input_size"][-2:]):
        raise ValueError(f"a crop of {max(sizes)} px is larger than the model's picture")
    for split in splits:
        try:
            pictures = open_pictures(sources, split)
        except SizesDifferError:
            if len(sources) > 1 or not sources[0].is_dir():
                raise
            folder = str(sources[0])
            _refuse_changes(recipe, folder, sizes)
            return TimmBatches(recipe, cfg, folder, (split,), train, device, rank, world)
        except NoPicturesError:
            if split == splits[-1]:
                raise
        else:
            if recipe.data == "cifar10-events":
                if changes := _changes(recipe):
                    raise ValueError(
                        f"cifar10-events: {changes[0]} is for pictures, not for events"
                    )
                return SimulatedEvents(recipe, pictures, train, device, rank, world)
            return MemoryBatches(recipe, cfg, pictures, train, device, rank, world)
    raise AssertionError("the last split returns or raises")


def _changes(recipe: Recipe) -> list[str]:
    """What a recipe does to pictures in memory alone."""
    return [name for name in ("cutout", "randaugment") if getattr(recipe, name)]


def _refuse_changes(recipe: Recipe, data: str, sizes: list[int]) -> None:
    if changes := _changes(recipe):
        raise ValueError(f"{data}: {changes[0]} is for pictures of one size, held in memory")
    if sizes:
        raise ValueError(
            f"{data}: pictures that timm reads are cut to the model's size alone, "
            f"so schedule {recipe.schedule!r} cannot ask for others"
        )


class MemoryBatches:
    """Batches from decoded bytes on the training device: loading is one gather, never a decoder."""

    def __init__(
        self,
        recipe: Recipe,
        cfg: dict[str, Any],
        pictures: Pictures,
        train: bool,
        device: torch.device,
        rank: int,
        world: int,
    ) -> None:
        self.recipe, self.train, self.rank, self.world = recipe, train, rank, world
        self.split, self.classes = pictures.split, pictures.classes
        self.num_pictures = len(pictures.labels)
        # On a CPU the bytes stay where the disk cache maps them.
        self.images = torch.from_numpy(pictures.images).to(device)
        self.labels = torch.from_numpy(pictures.labels).to(device)
        self.size = tuple(cfg["input_size"][-2:])
        self.mean = torch.tensor(cfg["mean"], device=device).view(1, -1, 1, 1) * 255
        self.std = torch.tensor(cfg["std"], device=device).view(1, -1, 1, 1) * 255

    def __len__(self) -> int:
        batch = self.recipe.batch_size
        return self.num_pictures // batch if self.train else -(-self.num_pictures // batch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(self.num_pictures)
        if self.train:
            order = torch.randperm(self.num_pictures, generator=seeded(self.recipe.seed, epoch))
        for batch in range(first, len(self)):
            start = batch * self.recipe.batch_size
            chosen = order[start : start + self.recipe.batch_size][self.rank :: self.world]
            chosen = chosen.to(self.images.device, non_blocking=True)  # the host runs ahead
            images = self.images[chosen].permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
            generator = seeded(self.recipe.seed, epoch, batch)
            if self.train and self.recipe.randaugment:
                seeds = draw_seeds(self.recipe.batch_size, generator)[self.rank :: self.world]
                images = rand_augment(images, self.recipe.randaugment, seeds)
            # A random resized crop is better cut from all the pixels there are.
            if images.shape[2:] != self.size and (self.recipe.crop_padding or not self.train):
                images = F.interpolate(images.float(), self.size, mode="bilinear", antialias=True)
            if self.train:
                size = self.recipe.phase(epoch).size
                images = self._augmented(images, (size, size) if size else self.size, generator)
            images = (images.float() - self.mean) / self.std
            if self.train and self.recipe.cutout:
                shown = (images.shape[2], images.shape[3])
                centres = draw_centres(self.recipe.batch_size, shown, generator)
                images = cut_out(images, self.recipe.cutout, centres[self.rank :: self.world])
            yield images, self.labels[chosen]

    def _augmented(
        self, images: Tensor, size: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        batch, mine = self.recipe.batch_size, slice(self.rank, None, self.world)
        if not (padding := self.recipe.crop_padding):
            return resized_crop(images, size, draw_windows(batch, generator)[mine])
        # A crop that is smaller than the picture has room to move as it is.
        if size == self.size:
            images = F.pad(images, (padding,) * 4)
        height, width = images.shape[2:]
        room = (height - size[0], width - size[1])
        return crop_flip(images, size, draw_shifts(batch, room, generator)[mine])
