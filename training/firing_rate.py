"""The firing rate of a network as a term of the loss: every spike saved is work saved."""

import torch
from torch import Tensor, nn

from msr_zoo.neurons import LIF


class FiringRate:
    """Watches every LIF of a network; `take` gives the spikes a neuron a step of the last forward.

    The mean is over all neurons, samples and steps, and carries a gradient through the surrogate.
    Raises ValueError for a network that has no LIF.
    """

    def __init__(self, network: nn.Module) -> None:
        self._sums: list[Tensor] = []
        self._neurons = 0
        neurons = [module for module in network.modules() if isinstance(module, LIF)]
        if not neurons:
            raise ValueError("rate_penalty asks for few spikes, but the model has no neuron")
        for neuron in neurons:
            neuron.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        if module.training:
            # A half-precision sum of ones would stop counting.
            self._sums.append(spikes.sum(dtype=torch.float32))
            self._neurons += spikes.numel()

    def take(self) -> Tensor:
        """The rate since the last call, between 0 and 1."""
        rate = torch.stack(self._sums).sum() / self._neurons
        self._sums, self._neurons = [], 0
        return rate
