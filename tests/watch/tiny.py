"""A network that is made in a moment."""

import torch

import msr_zoo


def tiny(name="msresnet20", **kwargs):
    torch.manual_seed(0)
    kwargs = {"depths": (2, 1, 1), "zero_init_last": False, **kwargs}
    return msr_zoo.create_model(name, **kwargs).eval()
