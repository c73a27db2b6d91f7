"""The spiking neuron as a module: its constants, and the operator that runs it."""

import math

from torch import Tensor, nn

from msr_zoo.kernels.lif import lif

DECAY = 0.25
THRESHOLD = 0.5
SURROGATE_WIDTH = 1.0


class LIF(nn.Module):
    """Iterative leaky integrate-and-fire neurons with hard reset (Hu et al., TNNLS 2024).

    Takes input currents (T, ...) and gives spikes 0 or 1 of the same shape and dtype. Nothing is
    kept between calls. The surrogate gradient is a rectangle of width 1 around the threshold.
    Raises ValueError for a decay outside [0, 1] or a threshold that is not positive.
    """

    def __init__(self, decay: float = DECAY, threshold: float = THRESHOLD) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must lie in [0, 1], got {decay}")
        if not (threshold > 0 and math.isfinite(threshold)):
            raise ValueError(f"threshold must be positive, got {threshold}")
        self.decay = float(decay)
        self.threshold = float(threshold)

    def forward(self, current: Tensor) -> Tensor:
        return lif(current, self.decay, self.threshold, SURROGATE_WIDTH)

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}"
