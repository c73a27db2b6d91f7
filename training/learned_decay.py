"""A decay of the membrane potentials that is learned, one for all neurons of a network."""

from typing import Any

import torch
from torch import Tensor, nn

from msr_zoo.kernels import reference
from msr_zoo.kernels.lif import lif
from msr_zoo.neurons import LIF, SURROGATE_WIDTH
from recipes import Recipe


class LearnedDecay(nn.Module):
    """The decay as a parameter, between 0 and 1 by a sigmoid (as in PLIF; Fang et al., ICCV 2021).

    It takes the place of the constant in every LIF of a network, but is not among the network's
    parameters: what is kept of it is a number, as for every other network. Neurons keep their
    potentials for backward then, in float32. Raises ValueError for a network that has no LIF.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        neurons = [module for module in network.modules() if isinstance(module, LIF)]
        if not neurons:
            raise ValueError("learned_decay needs a model with neurons, and this one has none")
        decay = torch.tensor(neurons[0].decay)
        if not 0 < decay < 1:
            raise ValueError(f"a learned decay begins between 0 and 1, got {decay:g}")
        self.raw = nn.Parameter(torch.logit(decay))
        for parent in list(network.modules()):
            for name, child in parent.named_children():
                if isinstance(child, LIF):
                    setattr(parent, name, _LearnedLIF(child, self))

    def forward(self) -> Tensor:
        return self.raw.sigmoid()


class _LearnedLIF(LIF):
    def __init__(self, neuron: LIF, decay: LearnedDecay) -> None:
        super().__init__(neuron.decay, neuron.threshold)
        self._learned = (decay,)  # in a tuple, where torch does not find it

    def forward(self, current: Tensor) -> Tensor:
        decay = self._learned[0]()
        if torch.is_grad_enabled():
            return reference.lif(current, decay, self.threshold, SURROGATE_WIDTH)
        return lif(current, decay.item(), self.threshold, SURROGATE_WIDTH)


def neuron_of(saved: dict[str, Any]) -> dict[str, Any]:
    """The recipe's keywords of `create_model` for the neurons, with what the run has learned."""
    recipe = Recipe(**saved["recipe"])
    if recipe.learned_decay:
        return {"decay": saved["history"][-1]["decay"]}
    return recipe.neuron
