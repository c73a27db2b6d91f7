"""The training loop of fine-tuning, and what is measured of its outcome."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import Muon, param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from msr_zoo.activity import record_activity
from msr_zoo.finetune_data import Samples
from msr_zoo.finetune_report import wilson_interval
from msr_zoo.finetune_split import Split

BATCH = 64  # samples that are tested together
FEWEST, MOST = 1_500, 10_000  # samples an epoch


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A recipe: the head alone for `head_epochs` where the rest is pretrained, then everything.

    An epoch draws as many samples as there are, but 1,500 at least and 10,000 at most, and every
    class equally often. The first `early_epochs` of all layers show event frames of one step, which
    costs a fraction and teaches the same shapes. Convolutions learn by Muon (Jordan, 2024), and all
    else by AdamW with the same `lr`; the head alone by AdamW with `head_lr`. A layer learns
    `layer_decay` times as fast as the one above it; without pretraining all learn alike. What is
    kept is a running average of the weights, over about 1 / (1 - `average`) updates; training ends
    after `patience` epochs that made it no better.
    """

    epochs: int = 20
    early_epochs: int = 0
    head_epochs: int = 2
    batch_size: int = 64
    lr: float = 2e-3
    head_lr: float = 1e-2
    layer_decay: float = 0.9
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    average: float = 0.98
    patience: int = 8

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.patience) < 1 or self.head_epochs < 0:
            raise ValueError("a recipe needs an epoch, a sample a batch and some patience")
        if not 0 <= self.early_epochs < self.epochs:
            raise ValueError(f"early_epochs must lie below {self.epochs}, got {self.early_epochs}")

    def changed(self, changes: Mapping[str, Any]) -> "Tuning":
        """With other values; the share of early epochs stays as it is unless they are changed."""
        if unknown := changes.keys() - asdict(self).keys():
            raise ValueError(f"a recipe has no {', '.join(sorted(unknown))}")
        early = self.early_epochs * changes.get("epochs", self.epochs) // self.epochs
        return replace(self, **{"early_epochs": early, **changes})


def tune(
    model: Any,
    data: Samples,
    split: Split,
    recipe: Tuning,
    *,
    pretrained: bool,
    seed: int,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train a model in place, and leave it with the best weights; gives what every epoch reached.

    The best are those with the lowest cross-entropy on `split.stop`, or the last if that is empty.
    """
    rng = np.random.default_rng(seed)
    head = recipe.head_epochs if pretrained else 0
    classifier = list(model.get_classifier().parameters())
    history: list[dict[str, Any]] = []
    draws = _draws(data, split, recipe.batch_size)
    model.to(memory_format=torch.channels_last)

    optimizer: torch.optim.Optimizer
    optimizer = torch.optim.AdamW(classifier, lr=recipe.head_lr, weight_decay=0.0)
    for epoch in range(head):
        model.eval()  # batch norm keeps the statistics that it was pretrained with
        progress = (epoch, head)
        record = _epoch(model, data, draws, rng, recipe, optimizer, progress, None)
        history.append({"epoch": epoch + 1, "trained": "head", **record})
        report(_line(history[-1], head + recipe.epochs))

    decay = recipe.layer_decay if pretrained else 1.0
    groups = param_groups_layer_decay(model, recipe.weight_decay, layer_decay=decay)
    for group in groups:  # its parameters have as many dimensions; Muon is for convolutions alone
        group["use_fallback"] = group["params"][0].dim() < 4
    optimizer = Muon(groups, recipe.lr, momentum=0.95, nesterov=True, ns_steps=3)
    average = ModelEmaV3(model, decay=recipe.average, use_warmup=True)
    best, best_loss, waited = model.state_dict(), float("inf"), 0
    for epoch in range(recipe.epochs):
        model.train()
        progress = (epoch, recipe.epochs)
        record = _epoch(model, data, draws, rng, recipe, optimizer, progress, average)
        if epoch >= recipe.early_epochs:
            record |= _stopping(average.module, data, split)
        history.append({"epoch": head + epoch + 1, "trained": "all", **record})
        report(_line(history[-1], head + recipe.epochs))
        if epoch < recipe.early_epochs:
            continue
        waited += 1
        if not split.stop or record["stop_loss"] < best_loss:
            best_loss, waited = record.get("stop_loss", best_loss), 0
            best = copy.deepcopy(average.module.state_dict())
        if waited >= recipe.patience:
            break
    model.load_state_dict(best)
    return history


def _draws(data: Samples, split: Split, size: int) -> Callable[[np.random.Generator], Any]:
    """A function that draws the batches (labels, samples) of one epoch."""
    train = np.array(split.train)
    labels = np.array([data.samples[i].label for i in split.train])
    own = [train[labels == label] for label in range(len(data.classes))]
    number = -(-min(max(len(split.train), FEWEST), MOST) // size)

    def draw(rng: np.random.Generator) -> list[tuple[Tensor, list[int]]]:
        drawn = rng.integers(len(own), size=(number, size))
        return [
            (torch.from_numpy(batch), [int(rng.choice(own[label])) for label in batch])
            for batch in drawn
        ]

    return draw


def _epoch(
    model: Any,
    data: Samples,
    draws: Callable[[np.random.Generator], Any],
    rng: np.random.Generator,
    recipe: Tuning,
    optimizer: torch.optim.Optimizer,
    progress: tuple[int, int],
    average: ModelEmaV3 | None,
) -> dict[str, Any]:
    """Train for the epoch `progress` (number, of all): everything, or without an average the head.

    Raises ValueError once the loss is not finite.
    """
    start, device = time.perf_counter(), next(model.parameters()).device
    batches = draws(rng)
    losses, right = [], 0
    epoch, epochs = progress
    steps = 1 if average is not None and epoch < recipe.early_epochs else None
    bar = tqdm(batches, desc=f"epoch {epoch + 1}", unit="batch", disable=None, leave=False)
    for step, (labels, chosen) in enumerate(bar, start=epoch * len(batches)):
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, group, step / (epochs * len(batches)), average is None)
        x, labels = data.augmented(chosen, rng, steps).to(device), labels.to(device)
        with _autocast(device):
            if average is None:
                with torch.no_grad():
                    features = model.forward_features(x)
                logits = model.forward_head(features)
            else:
                logits = model(x)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if average is not None:
            average.update(model, step=step + 1)
        losses.append(float(loss.detach()))
        right += int((logits.argmax(1) == labels).sum())
    if not math.isfinite(sum(losses)):
        raise ValueError(
            f"training diverged in epoch {epoch + 1}; a smaller learning rate would do"
        )
    return {
        "loss": sum(losses) / len(losses),
        "top1": right / (len(losses) * recipe.batch_size),
        "seconds": time.perf_counter() - start,
    }


def _rate(recipe: Tuning, group: dict[str, Any], done: float, head: bool) -> float:
    """A learning rate that rises for a tenth of the time, then falls as a cosine."""
    peak = recipe.head_lr if head else recipe.lr * group["lr_scale"]
    return peak * min(1.0, 10 * done + 0.01) * 0.5 * (1 + math.cos(math.pi * done))


@contextmanager
def _autocast(device: torch.device) -> Iterator[None]:
    """bfloat16 where the processor has it; elsewhere it would be slower than float32."""
    has = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    with torch.autocast(device.type, torch.bfloat16, enabled=has):
        yield


@torch.inference_mode()
def _stopping(model: nn.Module, data: Samples, split: Split) -> dict[str, float]:
    """Cross-entropy and accuracy on what is held out to tell when to stop, if anything is."""
    if not split.stop:
        return {}
    device = next(model.parameters()).device
    model.eval()
    loss, right = 0.0, 0
    for x, labels in _batches(data, split.stop, device):
        with _autocast(device):
            logits = model(x).float()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    number = len(split.stop)
    return {"stop_loss": loss / number, "stop_top1": right / number}


def _batches(
    data: Samples, chosen: Sequence[int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(chosen), BATCH):
        part = chosen[first : first + BATCH]
        labels = torch.tensor([data.samples[i].label for i in part])
        yield data.plain(part).to(device), labels.to(device)


def _line(record: dict[str, Any], epochs: int) -> str:
    what = " (head alone)" if record["trained"] == "head" else ""
    line = f"epoch {record['epoch']}/{epochs}{what}: loss {record['loss']:.3f}, "
    line += f"{record['top1']:.1%} of augmented samples right"
    if "stop_top1" in record:
        line += f", {record['stop_top1']:.1%} of those held out to tell when to stop"
    return f"{line}, {record['seconds']:.0f} s"


@torch.inference_mode()
def measure(model: Any, data: Samples, chosen: Sequence[int]) -> dict[str, Any]:
    """Accuracy after each step, its interval, the confusion matrix and the activity; float32."""
    model.eval()
    device = next(model.parameters()).device
    number, classes = len(chosen), len(data.classes)
    confusion = np.zeros((classes, classes), int)
    right_by_step: Tensor | int = 0
    top5 = 0
    votes: dict[int, Tensor] = {}
    start = 0
    with record_activity(model) as activity:
        for x, labels in _batches(data, chosen, device):
            logits = model.forward_steps(x)  # (T, B, classes)
            right_by_step = right_by_step + (logits.argmax(2) == labels).sum(1)
            np.add.at(confusion, (labels.cpu().numpy(), logits[-1].argmax(1).cpu().numpy()), 1)
            best = logits[-1].topk(min(5, classes)).indices
            top5 += int((best == labels[:, None]).sum())
            for i, share in zip(chosen[start:], logits[-1].softmax(1), strict=False):
                source = data.samples[i].source
                votes[source] = votes.get(source, 0) + share
            start += len(labels)
    by_step = [int(right) / number for right in torch.as_tensor(right_by_step)]
    label_of = {data.samples[i].source: data.samples[i].label for i in chosen}
    return {
        "num_pictures": number,
        "num_files": len(votes),
        "files_right": sum(int(v.argmax()) == label_of[s] for s, v in votes.items()),
        "num_steps": len(by_step),
        "classes": data.classes,
        "top1": by_step[-1:],
        "top1_interval95": wilson_interval(by_step[-1], number),
        "top5": [top5 / number],
        "top1_by_step": by_step,
        "confusion": confusion.tolist(),
        "activity": activity.as_dict(),
    }
