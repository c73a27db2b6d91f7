"""The loss of a network's answers: one for all its steps, or one for each."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class Answers(nn.Module):
    """Logits (1, B, classes) of all steps together, or (T, B, classes) of each step's own spikes.

    The latter are for temporal efficient training (TET; Deng et al., ICLR 2022). What is learned
    beside the network, its `decay`, is among the parameters too.
    """

    def __init__(self, network: nn.Module, by_step: bool, decay: nn.Module | None = None) -> None:
        super().__init__()
        self.network: Any = network
        self.by_step = by_step
        self.decay = decay

    def forward(self, images: Tensor) -> Tensor:
        if self.by_step:
            return self.network.forward_steps(images, cumulative=False)
        return self.network(images).unsqueeze(0)


def cross_entropy(answers: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The mean over steps and samples of the cross entropy of (T, B, classes), in float32."""
    return F.cross_entropy(
        answers.flatten(0, 1).float(),
        labels.repeat(len(answers)),
        label_smoothing=label_smoothing,
    )
