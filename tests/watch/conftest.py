"""A small network that has looked at a picture, and one that has looked at events."""

import pytest
import torch
from tiny import tiny

from msr_zoo.watch.trace import Source, trace


@pytest.fixture(scope="package")
def picture_trace():
    picture = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return trace(tiny(), picture, Source("tiny.cifar10", trained=True), 3)


@pytest.fixture(scope="package")
def event_trace():
    frames = 3 * torch.rand(1, 5, 2, 128, 128, generator=torch.Generator().manual_seed(1))
    return trace(tiny("msresnet20_dvs"), frames.round(), Source("<tiny>", trained=False))
