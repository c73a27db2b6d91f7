"""What a model is measured with: something to look at, and layers that fire as trained ones do."""

from typing import Any

import torch
from timm.data import create_transform, resolve_data_config
from torch import Tensor

from msr_zoo.predict import EXAMPLE, read_picture

__all__ = ["calibrate", "sample"]


def sample(model: Any, batch: int) -> Tensor:
    """Something to look at: crops of the picture that we ship, or of random events."""
    generator = torch.Generator().manual_seed(0)
    if model.in_chans != 3:
        size = model.pretrained_cfg["input_size"][1:]
        shape = (batch, model.num_steps, model.in_chans, *size)
        return (torch.rand(shape, generator=generator) < 0.05).float()
    transform = create_transform(**resolve_data_config(model=model))
    picture = read_picture(EXAMPLE)
    side = min(picture.size) * 3 // 4
    crops = []
    for _ in range(batch):
        left, top = (int(torch.randint(n - side, (), generator=generator)) for n in picture.size)
        crops.append(transform(picture.crop((left, top, left + side, top + side))))
    return torch.stack(crops)


@torch.no_grad()
def calibrate(model: Any, x: Tensor, rate: float) -> None:
    """Shift the batch norm before each LIF, so that every layer fires at `rate` for x."""
    norms: dict[Any, Any] = {}  # the batch norm that a LIF's input ends with
    before = model.stem[-1]
    for stage in model.stages:
        for block in model.get_submodule(stage).children():
            norms[block.lif1], norms[block.lif2], before = before, block.bn1, block.bn2
    norms[model.lif] = before

    def shift(lif: Any, inputs: tuple[Tensor, ...]) -> None:
        # What is constant in time is one slab seen at every step.
        current = inputs[0] if inputs[0].stride(0) else inputs[0][:1]
        low, high = -8.0, 8.0
        for _ in range(12):
            middle = (low + high) / 2
            fires = float(lif.forward(inputs[0] + middle).mean())
            low, high = (low, middle) if fires > rate else (middle, high)
        # The sum along the shortcut moves with its last summand, so the addition is in place.
        current.add_(middle)
        norms[lif].bias.add_(middle)

    hooks = [lif.register_forward_pre_hook(shift) for lif in norms]
    model.eval()(x)
    for hook in hooks:
        hook.remove()
