"""Whole networks written from the equations: slow, step by step, from nothing but a state dict.

Nothing of msr_zoo is imported here. A layer's activity is a list of T tensors (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

DECAY, THRESHOLD = 0.25, 0.5

Steps = list[Tensor]


class Equations:
    """One network; after a call, `spikes` and `statistics` hold what each LIF and BN did."""

    def __init__(
        self,
        state: dict[str, Tensor],
        *,
        family: str,
        stem_stride: int,
        first_stride: int,
        train: bool,
    ) -> None:
        self.state, self.family, self.train = state, family, train
        self.stem_stride, self.first_stride = stem_stride, first_stride
        self.spikes: dict[str, Tensor] = {}
        self.statistics: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Tensor, num_steps: int) -> Tensor:
        """Logits for pictures (B, C, H, W) shown num_steps times, or for frames (B, T, C, H, W)."""
        steps = [x] * num_steps if x.dim() == 4 else [x[:, t] for t in range(x.shape[1])]
        steps = self.stem(steps)
        for stage in range(1, 1 + max(int(k[5]) for k in self.state if k.startswith("layer"))):
            depth = 1 + max(
                int(k.split(".")[1]) for k in self.state if k.startswith(f"layer{stage}.")
            )
            for i in range(depth):
                stride = 1 if i > 0 else self.first_stride if stage == 1 else 2
                steps = self.block(f"layer{stage}.{i}", steps, stride)
        if self.family in ("ms", "twin"):
            steps = self.neurons("lif", steps)
        pooled = [step.mean((2, 3)) for step in steps]
        mean = sum(pooled) / len(pooled)
        return mean @ self.state["fc.weight"].T + self.state["fc.bias"]

    def stem(self, steps: Steps) -> Steps:
        index = 0
        while self.state[f"stem.{index}.weight"].dim() == 4:
            steps = self.conv(f"stem.{index}", steps, self.stem_stride if index == 0 else 1)
            index += 1
        steps = self.norm(f"stem.{index}", steps)
        return steps if self.family in ("ms", "twin") else self.neurons("stem_lif", steps)

    def block(self, name: str, x: Steps, stride: int) -> Steps:
        def conv(i: int, y: Steps) -> Steps:
            y = self.conv(f"{name}.conv{i}", y, stride if i == 1 else 1)
            return self.norm(f"{name}.bn{i}", y)

        def lif(i: int, y: Steps) -> Steps:
            return self.neurons(f"{name}.lif{i}", y)

        shortcut = self.shortcut(f"{name}.shortcut", x, stride)
        if self.family in ("ms", "twin"):
            branch = conv(2, lif(2, conv(1, lif(1, x))))
        elif self.family == "spiking":
            branch = conv(2, lif(1, conv(1, x)))
            return lif(2, [b + s for b, s in zip(branch, shortcut, strict=True)])
        else:
            branch = lif(2, conv(2, lif(1, conv(1, x))))
            if shortcut is not x:
                shortcut = self.neurons(f"{name}.shortcut_lif", shortcut)
        return [b + s for b, s in zip(branch, shortcut, strict=True)]

    def shortcut(self, name: str, x: Steps, stride: int) -> Steps:
        if f"{name}.0.weight" in self.state:
            return self.norm(f"{name}.1", self.conv(f"{name}.0", x, stride))
        if f"{name}.1.weight" in self.state:
            pooled = [average_of_squares(step, stride) for step in x]
            return self.norm(f"{name}.2", self.conv(f"{name}.1", pooled, 1))
        return x

    def conv(self, name: str, steps: Steps, stride: int) -> Steps:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return [F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2) for x in steps]

    def norm(self, name: str, steps: Steps) -> Steps:
        if self.train:  # over steps, samples and places together (tdBN)
            mean = sum(x.mean((0, 2, 3)) for x in steps) / len(steps)
            squares = [(x - mean[:, None, None]).square().mean((0, 2, 3)) for x in steps]
            variance = sum(squares) / len(steps)
            self.statistics[name] = (mean.detach(), variance.detach())
        else:
            mean, variance = (self.state[f"{name}.running_{k}"] for k in ("mean", "var"))
        scale = self.state[f"{name}.weight"] / (variance + 1e-5).sqrt()
        bias = self.state[f"{name}.bias"] - mean * scale
        return [x * scale[:, None, None] + bias[:, None, None] for x in steps]

    def neurons(self, name: str, steps: Steps) -> Steps:
        if self.family == "twin":
            spikes = [x.clamp(min=0) for x in steps]
        else:
            u = s = torch.zeros_like(steps[0])
            spikes = []
            for x in steps:
                u = DECAY * u * (1 - s.detach()) + x
                fires = (u > THRESHOLD).to(u.dtype)
                window = ((u - THRESHOLD).abs() < 0.5).to(u.dtype)
                s = fires.detach() + window.detach() * (u - u.detach())
                spikes.append(s)
        self.spikes[name] = torch.stack(spikes).detach()
        return spikes


def average_of_squares(x: Tensor, size: int) -> Tensor:
    """Means over squares of size × size pixels; a square cut by the edge has fewer."""
    rows = [
        [x[..., i : i + size, j : j + size].mean((2, 3)) for j in range(0, x.shape[3], size)]
        for i in range(0, x.shape[2], size)
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
