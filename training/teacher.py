"""A trained network whose answers another learns beside the labels (Hinton et al., 2015)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import msr_zoo

TEMPERATURE = 4.0  # softens the answers of both, which shows what else the teacher saw


class Teacher:
    """Answers with a trained model of msr_zoo, by its weights folder or name, without gradients.

    `cfg` and `classes` are those of the network that learns. Raises ValueError where the teacher
    names other classes or takes other pictures, and what `msr_zoo.create_model` raises.
    """

    def __init__(
        self, model: str, cfg: Mapping[str, Any], classes: tuple[str, ...], device: torch.device
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # what is drawn next is the pupil's
            network: Any = msr_zoo.create_model(model, pretrained=True)
        own: Any = network.pretrained_cfg
        if tuple(own.get("label_names") or ()) != classes:
            raise ValueError(f"the teacher {model} does not know the classes {classes}")
        for key in ("mean", "std"):
            if tuple(own[key]) != tuple(cfg[key]):
                raise ValueError(
                    f"the teacher {model} takes pictures of {key} {own[key]}, the model {cfg[key]}"
                )
        network = network.to(device, memory_format=torch.channels_last)
        self._network: Any = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        logits: Tensor = self._network(images)
        return logits


def distillation(answers: Tensor, taught: Tensor) -> Tensor:
    """KL divergence of softened answers (T, B, classes) from the teacher's (B, classes), float32.

    The mean over steps and samples, times the temperature squared, which keeps the gradient's size.
    """
    soft = F.log_softmax(taught.float() / TEMPERATURE, 1).repeat(len(answers), 1)
    learned = F.log_softmax(answers.flatten(0, 1).float() / TEMPERATURE, 1)
    return TEMPERATURE**2 * F.kl_div(learned, soft, reduction="batchmean", log_target=True)
