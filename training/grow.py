"""A deep network that begins as a shallower trained one: the other blocks start as identities."""

import re
from typing import Any

import torch
from torch import nn

import msr_zoo
from msr_zoo.models.ms_resnet import MSBlock
from msr_zoo.models.rivals import TwinBlock

_BLOCK = re.compile(r"(layer\d+\.\d+)\.")


def grow(network: Any, source: str, classes: tuple[str, ...]) -> set[str]:
    """Put the weights of a trained model, by its weights folder or name, into a deeper one's.

    Each stage's first blocks take the source's, and whatever follows them gets an empty branch (the
    last norm's scale and shift 0), which adds nothing to the potentials that the shortcut carries:
    the network answers as the source does, and learns on from there (Net2Net; Chen et al., ICLR
    2016). Gives the names of what it took. Raises ValueError where the source is not of the
    network's kind, deeper than it, of another width or of other classes, and what
    `msr_zoo.create_model` raises.
    """
    with torch.random.fork_rng(devices=[]):  # what is drawn next is the network's
        shallow: Any = msr_zoo.create_model(source, pretrained=True)
    if type(shallow) is not type(network) or network.block not in (MSBlock, TwinBlock):
        raise ValueError(
            f"{source} cannot grow: it and what it grows into must both be MS-ResNets, or its twins"
        )
    if tuple(shallow.pretrained_cfg.get("label_names") or ()) != classes:
        raise ValueError(f"{source} does not know the classes {classes}")
    grown, given = network.state_dict(), shallow.state_dict()
    if any(name not in grown or grown[name].shape != given[name].shape for name in given):
        raise ValueError(f"{source} has blocks or widths that the deeper network has not")
    taken = {match[1] for name in given if (match := _BLOCK.match(name))}
    network.load_state_dict({**grown, **given})
    for name, block in network.named_modules():
        if isinstance(block, MSBlock) and name not in taken:
            nn.init.zeros_(block.bn2.weight)
            nn.init.zeros_(block.bn2.bias)
    return set(given)
