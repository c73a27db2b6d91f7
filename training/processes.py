"""What the processes of one run find out together; one that runs alone asks nobody."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process's place among those that torchrun started, and its device.

    What a method exchanges, every process has to call for.
    """

    rank: int
    world: int
    device: torch.device
    # For words between CPUs, which must not wait for what a GPU has still to compute.
    words: Any = None

    @classmethod
    def join(cls) -> "Processes":
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        device = torch.device("cpu")
        if cuda:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
        if world == 1:
            return cls(rank, world, device)
        dist.init_process_group("nccl" if cuda else "gloo")
        return cls(rank, world, device, dist.new_group(backend="gloo"))

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process raised it."""
        if self.world == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.words)
        return [bool(flag) for flag in raised.tolist()]

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the processes; their own is left as it is."""
        if self.world == 1:
            return x
        total = x.clone()
        dist.all_reduce(total)
        return total

    def load(self, file: Path) -> dict[str, Any] | None:
        """What the first process finds in a checkpoint, None without one.

        The others have its word for it, because their machines may not see its disk.
        """
        found = [file.read_bytes() if self.rank == 0 and file.exists() else None]
        if self.world > 1:
            dist.broadcast_object_list(found, group=self.words)
        if found[0] is None:
            return None
        # On the CPU, where an optimizer counts its steps; it moves what belongs on the card itself.
        state: dict[str, Any] = torch.load(
            io.BytesIO(found[0]), map_location="cpu", weights_only=True
        )
        return state
