"""Weights folders that are exactly Hub repositories: written whole, or not at all."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from timm.utils import unwrap_model
from torch import Tensor, nn

from msr_zoo.event_input import EventInput
from msr_zoo.neurons import LIF, SURROGATE_WIDTH
from msr_zoo.pretrained import WEIGHTS_NAME, check_data, digest_of


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    card: str,
    full_precision: bool = False,
    events: EventInput | None = None,
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Write model.safetensors, config.json and README.md; gives the sha256 of the weights.

    Convolution and linear tensors are stored in float16 unless `full_precision` is set, so logits
    of the stored model differ by that rounding; batch-norm tensors stay float32. `events` tells
    how recordings become the input of a model of two channels (default: as they did in the folder
    that it was loaded from), `files` are more files by their names. `folder` must be new or empty.
    Raises OSError if it cannot be written, ValueError for a model without data (meta).
    """
    model = unwrap_model(model)  # of torch.compile and DataParallel, whose names would be stored
    check_data(model)
    if events is None and getattr(model, "in_chans", None) == 2:
        events = EventInput.beside(model)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if not full_precision:
        tensors |= halved(model, tensors)
    with _written_whole(Path(folder)) as part:
        save_file(tensors, part / WEIGHTS_NAME, metadata={"format": "pt"})
        # safetensors closes its files to others; an installed package is for all.
        (part / WEIGHTS_NAME).chmod(0o644)
        _save_config(model, part / "config.json", events)
        for name, content in (files or {}).items():
            (part / name).write_bytes(content)
        (part / "README.md").write_text(card, encoding="utf-8")
        digest = digest_of(part / WEIGHTS_NAME)
    return digest


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    card: str,
    full_precision: bool = False,
    events: EventInput | None = None,
    token: str | None = None,
    private: bool = False,
    commit_message: str = "Add model",
) -> str:
    """Create the repository if need be and upload a weights folder; gives the URL of the commit."""
    api = huggingface_hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, card=card, full_precision=full_precision, events=events)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=commit_message
        )
    return commit.commit_url


def halved(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of convolutions and linear layers, in float16."""
    half = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for key, _ in module.named_parameters(name, recurse=False):
                half[key] = tensors[key].half()
                if not torch.isfinite(half[key]).all():
                    raise ValueError(f"{key} does not fit float16; save it with full_precision")
    return half


def _save_config(model: Any, file: Path, events: EventInput | None = None) -> None:
    """timm's layout, with every argument that the output depends on, and a `spiking` section."""
    # Not tensors, so a strict load cannot notice a wrong one.
    steps = {
        "num_steps": model.num_steps,
        "decay": model.decay,
        "threshold": model.threshold,
    }
    sections: dict[str, Any] = {}
    # timm takes the names of classes out of its own configuration, and puts in what it is given.
    labels = model.pretrained_cfg.get("label_names") or ()
    if len(labels) == model.num_classes:
        sections["label_names"] = list(labels)
    if any(isinstance(module, LIF) for module in model.modules()):
        sections["spiking"] = {
            "neuron": "LIF",
            "T": model.num_steps,
            "decay": model.decay,
            "threshold": model.threshold,
            "reset": "hard",
            "surrogate": f"rectangle of width {SURROGATE_WIDTH:g}",
        }
    if events is not None:
        sections.setdefault("spiking", {})["events"] = events.as_dict()
    save_config_for_hf(model, str(file), model_config=sections, model_args=steps)


def check_new(folder: Path) -> None:
    """Raise FileExistsError unless a folder is new or empty, OSError if none can be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already and not an empty folder")
    whole = folder.resolve()
    there = next(path for path in (whole, *whole.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise type(error)(f"{folder} cannot be written ({error.strerror})") from error


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write in, which takes the name `folder` at the end, or vanishes on an error."""
    check_new(folder)
    folder = folder.resolve()
    # A folder that is there may be a mount point or the current one, and so has to stay.
    beside = folder if folder.is_dir() else folder.parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=f".{folder.name}.") as around:
        # One level down, because a temporary folder itself is closed to all but its owner.
        part = Path(around) / "part"
        part.mkdir()
        yield part
        if beside != folder:
            part.rename(folder)
            return
        # The weights last: where they are, the rest is.
        for file in sorted(part.iterdir(), key=lambda file: file.name == WEIGHTS_NAME):
            file.rename(folder / file.name)
