"""Random changes to a whole batch of pictures at once, on whatever device it is.

What is random is drawn apart from its use, for the whole batch, so that processes that share
a batch see what one would. It is drawn on the CPU and goes to a GPU without waiting for the batches
that are still at work there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, RandAugment

# Share of the area and aspect ratio of a random resized crop (Szegedy et al., CVPR 2015); their
# smallest share, 0.08, is for trainings of many epochs.
SCALE = (0.25, 1.0)
LOG_ASPECT = 0.2877  # log 4/3
# Pictures that RandAugment changes alike: one by one, those of 32 px cost four times as much.
GROUP = 8


def draw_shifts(batch: int, room: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Rows (top, left, flip) of integers (B, 3) for `crop_flip`: top and left up to `room`."""
    places = [torch.randint(0, most + 1, (batch, 1), generator=generator) for most in room]
    return torch.cat([*places, torch.randint(0, 2, (batch, 1), generator=generator)], 1)


def crop_flip(images: Tensor, size: tuple[int, int], shifts: Tensor) -> Tensor:
    """Cut (height, width) out of (B, C, H, W) at (top, left), mirror it where flip is 1."""
    (height, width), batch, device = size, len(images), images.device
    top, left, flip = shifts.unsqueeze(-1).unbind(1)  # (B, 1) each
    columns = torch.arange(width).expand(batch, -1)
    columns = torch.where(flip == 1, columns.flip(1), columns) + left
    rows = torch.arange(height) + top
    index = (torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :])
    there = tuple(i.to(device, non_blocking=True) for i in index)
    return images.permute(0, 2, 3, 1)[there].permute(0, 3, 1, 2)


def draw_centres(batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Rows (top, left) of integers (B, 2) for `cut_out`: any pixel of a picture."""
    places = [torch.randint(0, side, (batch, 1), generator=generator) for side in size]
    return torch.cat(places, 1)


def cut_out(images: Tensor, side: int, centres: Tensor) -> Tensor:
    """Hide a square of (B, C, H, W) with zeros, as much of it as lies in the picture."""
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        place = torch.arange(length) - centres[:, axis, None] + side // 2  # (B, length)
        inside.append((place >= 0) & (place < side))
    hidden = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hidden.to(images.device, non_blocking=True), 0)


def draw_windows(
    batch: int, generator: torch.Generator, scale: tuple[float, float] = SCALE
) -> Tensor:
    """Affine maps (B, 2, 3) for `resized_crop`: an area, an aspect, a place, a flip."""
    area = torch.empty(batch).uniform_(*scale, generator=generator)
    aspect = torch.empty(batch).uniform_(-LOG_ASPECT, LOG_ASPECT, generator=generator).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    flip = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    x, y = 2 * torch.rand(2, batch, generator=generator) - 1
    windows = torch.zeros(batch, 2, 3)
    windows[:, 0, 0], windows[:, 0, 2] = width * flip, x * (1 - width)
    windows[:, 1, 1], windows[:, 1, 2] = height, y * (1 - height)
    return windows


def resized_crop(images: Tensor, size: tuple[int, int], windows: Tensor) -> Tensor:
    """Cut the windows out of (B, C, H, W) and resize them to `size`, bilinearly, as float32."""
    grid = F.affine_grid(windows, [len(images), 1, *size], align_corners=False)
    grid = grid.to(images.device, non_blocking=True)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def draw_seeds(batch: int, generator: torch.Generator) -> Tensor:
    """Integers (B,) for `rand_augment`, the same for each GROUP of pictures."""
    seeds = torch.randint(0, 2**62, (-(-batch // GROUP),), generator=generator)
    return seeds.repeat_interleave(GROUP)[:batch]


def rand_augment(images: Tensor, magnitude: int, seeds: Tensor) -> Tensor:
    """Change uint8 (B, C, H, W) twice, each group in ways that its seed chooses.

    RandAugment (Cubuk et al., NeurIPS 2020) with torchvision's operations and its scale of
    magnitudes, 1 to 30. What a rotation brings in from outside is black, as crop padding is.
    """
    change = RandAugment(2, magnitude, interpolation=InterpolationMode.BILINEAR)
    own, sizes = seeds.unique_consecutive(return_counts=True)
    groups = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU's global generator
        for seed, group in zip(own.tolist(), images.split(sizes.tolist()), strict=True):
            torch.default_generator.manual_seed(seed)
            groups.append(change(group))
    return torch.cat(groups)
