"""Random crops and flips of a whole batch of uint8 pictures at once, on whatever device it is."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop_flip(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad (B, C, H, W) with black, cut (H, W) out at random and flip half: the CIFAR recipe."""
    batch, _, height, width = images.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    flip = torch.rand(batch, 1, generator=generator) < 0.5
    columns = torch.arange(width).expand(batch, -1)
    columns = torch.where(flip, columns.flip(1), columns) + left
    rows = torch.arange(height) + top
    padded = F.pad(images, (padding,) * 4)
    index = (torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :])
    device = images.device
    return padded.permute(0, 2, 3, 1)[tuple(i.to(device) for i in index)].permute(0, 3, 1, 2)


def random_resized_crop_flip(
    images: Tensor,
    size: tuple[int, int],
    generator: torch.Generator,
    scale: tuple[float, float] = (0.25, 1.0),
) -> Tensor:
    """Cut a random share `scale` of the area, aspect 3/4 to 4/3, resize to (H, W), flip half."""
    batch = images.shape[0]
    area = torch.empty(batch).uniform_(*scale, generator=generator)
    aspect = torch.empty(batch).uniform_(-0.2877, 0.2877, generator=generator).exp()  # ± log 4/3
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    flip = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    x, y = 2 * torch.rand(2, batch, generator=generator) - 1
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * flip, x * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, y * (1 - height)
    grid = F.affine_grid(theta, [batch, 1, *size], align_corners=False).to(images.device)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
