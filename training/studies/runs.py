"""Runs of training/train.py that a study is made of: each goes on where it was interrupted."""

import time
from pathlib import Path
from typing import Any

import torch

import train
from ending import told_to_end
from recipes import Recipe


def finished(arguments: list[str], out: Path, ends: float) -> dict[str, Any] | None:
    """The last checkpoint of a run that is trained to its end first; None if it was interrupted.

    A run that was told to end, but had ended anyway, counts as interrupted: its study is to stop.
    """
    saved = _checkpoint(out)
    if ends < float("inf"):
        left = (ends - time.monotonic()) / 60
        if left <= 0 and not (saved and _is_finished(saved)):
            return None
        arguments = [*arguments, "--max-minutes", f"{max(left, 0.01):.2f}"]
    # Of a finished run it makes nothing more, but refuses one that was made by another recipe.
    with told_to_end() as ending:
        train.main(arguments)
    saved = None if ending else _checkpoint(out)
    return saved if saved and _is_finished(saved) else None


def _checkpoint(out: Path) -> dict[str, Any] | None:
    file = out / "last.pt"
    if not file.exists():
        return None
    saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return saved


def _is_finished(saved: dict[str, Any]) -> bool:
    return len(saved["history"]) == Recipe(**saved["recipe"]).epochs
