"""The models that can be watched: which there are, and those in memory."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import torch
from torch import nn

from msr_zoo import at_hand
from msr_zoo.registry import create_model, is_model, list_models, load_pretrained, model_info
from msr_zoo.watch.trace import Source

__all__ = ["Recent", "choices", "load"]

UNTRAINED = " (untrained)"
PLACES = {"wheel": "bundled", "mirror": "in the mirror", "cached": "cached", "Hub": "fetched first"}
ALONE = 4
_MAKING = Lock()  # whatever makes a model draws from the process's one generator

T = TypeVar("T")


def choices(channels: int) -> list[tuple[str, str]]:
    """(what is shown, what `load` takes) for models of so many input channels, weights first.

    Models whose weights would have to be fetched come after those at hand, then untrained ones.
    """
    found: list[tuple[int, str, str]] = []
    for name in list_models("msresnet*", include_tags=True):
        if model_info(name).input_size[0] != channels:
            continue
        arch, _, tag = name.partition(".")
        where = at_hand.place(name)
        if tag and where in PLACES:
            rank = list(PLACES).index(where)
            found.append((rank, f"{name} ({PLACES[where]})", name))
        if not any(value == arch + UNTRAINED for _, _, value in found):
            found.append((len(PLACES), f"{arch}{UNTRAINED}", f"{arch}{UNTRAINED}"))
    return [(shown, value) for _, shown, value in sorted(found, key=lambda entry: entry[0])]


def load(name: str, folders: bool) -> tuple[nn.Module, Source]:
    """A model in evaluation, by a value of `choices`, or by a weights folder if `folders`.

    An untrained network is the same one every time.
    """
    if name.endswith(UNTRAINED):
        arch = name.removesuffix(UNTRAINED)
        if not is_model(arch):
            raise ValueError(f"{arch} is no model of ours")
        with _MAKING, torch.random.fork_rng():
            torch.manual_seed(0)
            # Branches that begin at zero would leave every block of it alike.
            model = create_model(arch, zero_init_last=False)
        return model.eval(), Source(name, trained=False)
    known = {value for channels in (2, 3) for _, value in choices(channels)}
    if name not in known:
        if not folders:
            raise ValueError(f"{name!r} is not among the models of this page")
        # For a name that no folder can have Path raises OSError.
        if not os.path.isdir(name.removeprefix("local-dir:")):
            raise ValueError(f"{name!r} is neither a model of this page nor a weights folder")
    with _MAKING:
        model = load_pretrained(name)
    return model.eval(), Source(Path(name).name if name not in known else name, trained=True)


class Recent(Generic[T]):
    """The latest values within a number of bytes; the one that was not asked for longest goes.

    One that is larger is kept alone, and one of more than ALONE times the number not at all.
    """

    def __init__(self, limit: int, size: Callable[[T], int]) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made outside the lock where it is not here."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        if self._size(value) > ALONE * self._limit:
            return value
        with self._lock:
            self._values[key] = value
            while len(self._values) > 1 and self.bytes() > self._limit:
                self._values.popitem(last=False)
        return value

    def bytes(self) -> int:
        return sum(self._size(value) for value in self._values.values())


def model_bytes(loaded: tuple[nn.Module, Source, object]) -> int:
    """Memory of a model, and about as much again where an engine has packed its weights."""
    model, _, counted = loaded
    return (1 + bool(counted)) * sum(p.numel() * p.element_size() for p in model.parameters())
