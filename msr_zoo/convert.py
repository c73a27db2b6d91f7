"""Checkpoints of MS-ResNet's authors, read into our names: the only place that opens a pickle."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msr_zoo.hub import save_pretrained
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.pretrained import digest_of
from msr_zoo.registry import create_model

# Their residual_function is LIF, conv, BN, LIF, conv, BN; each BN is wrapped in a module `bn`.
_BRANCH = {"1": "conv1", "2": "bn1", "4": "conv2", "5": "bn2"}

_CARD = """\
---
library_name: msr-zoo
tags: [image-classification, spiking-neural-network]
---
# {arch}, converted

Converted by `msr-zoo convert` from `{source}` (sha256 `{sha256}`), a checkpoint in the layout of
the authors of MS-ResNet (Hu et al., *Advancing Spiking Neural Networks Toward Deep Residual
Learning*, arXiv 2112.08954). Tensors were renamed and nothing else; T = {num_steps}. Its licence
and its accuracy are those of its source, and were not checked here.

```python
import msr_zoo

model = msr_zoo.create_model("local-dir:FOLDER", pretrained=True)
```
"""


def convert_checkpoint(
    path: str | Path, arch: str, out: str | Path, *, num_steps: int | None = None
) -> Path:
    """Turn an authors' `.pth` into the weights folder `out`, in full precision.

    `num_steps` defaults to the paper's for `arch`: it is not in the file. Raises ValueError, in one
    sentence, if the file is no checkpoint of `arch` or if `out` is not new or empty.
    """
    path, out = Path(path), Path(out)
    tensors = {_our_name(key): value for key, value in _read(path).items()}
    model: Any = create_model(
        arch,
        num_steps=num_steps,
        num_classes=_size(tensors, "fc.weight", 0),
        in_chans=_size(tensors, "stem.0.weight", 1),
    )
    if type(model) is not MSResNet:  # the rivals and the twin have the same tensors
        raise ValueError(f"{arch} is no MS-ResNet, and checkpoints of these alone are converted")
    _check(path, arch, tensors, model.state_dict())
    model.load_state_dict(tensors)
    for key, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: {key} has values that are not finite")
    card = _CARD.format(
        arch=arch, source=path.name, sha256=digest_of(path), num_steps=model.num_steps
    )
    try:
        save_pretrained(model, out, card=card, full_precision=True)
    except FileExistsError as error:
        raise ValueError(str(error)) from error
    return out


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names it gives them, without DataParallel's `module.`."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # What is no checkpoint fails in as many ways as there are files.
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint that torch reads with weights_only=True "
            f"({type(error).__name__})"
        ) from error
    for nest in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no state dict")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path} holds no state dict: {key!r} is no tensor")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _our_name(key: str) -> str:
    """Ours for a name of theirs; any other name as it is, to be named as unexpected.

    Their conv1 is the stem and conv{n+1}_x the n-th stage: up to conv5_x in the ImageNet networks,
    up to conv4_x in the CIFAR ones.
    """
    if match := re.fullmatch(r"conv1\.(\d)(?:\.bn)?\.(\w+)", key):
        return f"stem.{match[1]}.{match[2]}"
    pattern = r"conv([2-5])_x\.(\d+)\.(residual_function|shortcut)\.(\d)(?:\.bn)?\.(\w+)"
    if match := re.fullmatch(pattern, key):
        stage, block, part, index, kind = match.groups()
        layer = f"shortcut.{index}" if part == "shortcut" else _BRANCH.get(index)
        if layer:
            return f"layer{int(stage) - 1}.{block}.{layer}.{kind}"
    return key


def _size(tensors: dict[str, Tensor], key: str, dim: int) -> int | None:
    """A size that the file decides; None, for the variant's own, if the tensor is not there."""
    tensor = tensors.get(key)
    return tensor.shape[dim] if tensor is not None and tensor.dim() > dim else None


def _check(path: Path, arch: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing, unexpected = sorted(wanted.keys() - found), sorted(found.keys() - wanted)
    if missing or unexpected:
        raise ValueError(f"{path} does not fit {arch}: missing {missing}, unexpected {unexpected}")
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(wanted[key].shape)}"
            raise ValueError(f"{path} does not fit {arch}: {key} is {shapes}")
        if tensor.is_floating_point() != wanted[key].is_floating_point():
            types = f"{tensor.dtype}, not {wanted[key].dtype}"
            raise ValueError(f"{path} does not fit {arch}: {key} is {types}")
