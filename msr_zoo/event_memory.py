"""The engine's buffers, kept from call to call for the latest shapes of input."""

import ctypes
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from msr_zoo.kernels import native_conv

__all__ = ["Memory", "Shelf", "give_back"]

SHAPES = 8
# What made a buffer, for which sizes, and the buffer.
_Buffer = tuple[Callable[..., Tensor], tuple[int, ...], Tensor]


class Memory:
    """The buffers of a call; those given back serve again wherever the shape is the same.

    Where not `shared`, none does, for a caller who keeps them all.
    """

    def __init__(self, steps: int, batch: int, *, shared: bool = True) -> None:
        self.steps, self.batch, self.shared = steps, batch, shared
        self._all: list[_Buffer] = []
        self._idle: list[_Buffer] = []

    def spikes(self, shape: tuple[int, int, int]) -> Tensor:
        # The border is silent from the start, and no kernel writes there.
        return self._take(native_conv.silent, self.steps, self.batch, *shape)

    def potentials(
        self, shape: tuple[int, int, int], every: int = 1, steps: int | None = None
    ) -> Tensor:
        """Of every so many rows and columns, for all steps or as many as are given."""
        height, width = -(-shape[0] // every), -(-shape[1] // every)
        lanes = native_conv.lanes_of(shape[2])
        return self._take(_floats, steps or self.steps, self.batch, height, width, lanes)

    def _take(self, make: Callable[..., Tensor], *size: int) -> Tensor:
        for index, (made_by, made_for, _) in enumerate(self._idle):
            if made_by is make and made_for == size:
                return self._idle.pop(index)[2]
        self._all.append((make, size, make(*size)))
        return self._all[-1][2]

    def give(self, buffer: Tensor) -> None:
        if self.shared:
            self._idle += [entry for entry in self._all if entry[2] is buffer]

    def release(self) -> None:
        self._idle = list(self._all)


class Shelf:
    """Memories of the `SHAPES` latest shapes of input, one a thread at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[int, ...], list[Memory]] = OrderedDict()

    @contextmanager
    def borrow(self, steps: int, stem: torch.Size) -> Iterator[Memory]:
        """Buffers for so many steps of what a stem gives, for the time of a `with` block."""
        shape = (steps, *stem)
        with self._lock:
            idle = self._idle.setdefault(shape, [])
            self._idle.move_to_end(shape)
            if len(self._idle) > SHAPES:
                self._idle.popitem(last=False)
            memory = idle.pop() if idle else Memory(steps, stem[1])
        try:
            yield memory
        finally:
            memory.release()
            # Where the shape has left the shelf meanwhile, the list goes with the memory.
            with self._lock:
                idle.append(memory)


def _floats(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32)


def give_back() -> None:
    """Give freed memory to the system; glibc keeps it, in holes that packed weights do not fit."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
