"""How a picture moves before a simulated camera: offsets in pixels, and the affine maps of them."""

from __future__ import annotations

import torch
from torch import Tensor


def saccades(corners: Tensor, substeps: int) -> Tensor:
    """Go along a polygon at constant speed: offsets (S * substeps + 1, 2) in pixels, x first.

    ``corners`` (S + 1, 2) are where the S saccades begin and end.
    """
    part = torch.arange(substeps, dtype=corners.dtype)[:, None] / substeps
    legs = corners[:-1, None] + part * (corners[1:] - corners[:-1])[:, None]
    return torch.cat([legs.flatten(0, 1), corners[-1:]])


def triangle(pixels: float, substeps: int) -> Tensor:
    """Three saccades along an isosceles triangle, as N-MNIST was made (100 ms each).

    Orchard, Jayawant, Cohen and Thakor, Frontiers in Neuroscience 2015. ``pixels`` is the length
    of its base; gives offsets (3 * substeps + 1, 2).
    """
    corners = torch.tensor([[-0.5, 0.5], [0.0, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return saccades(corners * pixels, substeps)


def square(pixels: float, substeps: int) -> Tensor:
    """Four paths of one length along the diagonals, a closed loop, as CIFAR10-DVS was made.

    Li, Liu, Ji, Li and Shi, Frontiers in Neuroscience 2017. ``pixels`` is the loop's width; gives
    offsets (4 * substeps + 1, 2).
    """
    corners = torch.tensor([[0.0, -0.5], [0.5, 0.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5]])
    return saccades(corners * pixels, substeps)


def poses(offsets: Tensor, size: tuple[int, int], *, zoom: float = 1.0) -> Tensor:
    """Turn offsets of a picture (..., 2), in sensor pixels, into affine maps (..., 2, 3).

    They map the sensor's coordinates to the picture's, both from -1 to 1, as torch's
    ``affine_grid``. At a ``zoom`` of 1 the picture covers a sensor of ``size`` (H, W).
    """
    height, width = size
    scale = torch.tensor([2 / width, 2 / height], dtype=offsets.dtype)
    turn = torch.eye(2, dtype=offsets.dtype).expand(*offsets.shape[:-1], 2, 2)
    return torch.cat([turn, -(offsets * scale)[..., None]], -1) / zoom
