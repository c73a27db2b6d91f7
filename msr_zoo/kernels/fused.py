"""Which fused kernels run for a tensor: those in C++ on the CPU, those in Triton on a GPU."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from msr_zoo.kernels import native

TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def fused(x: Tensor) -> Any | None:
    """The module whose forward, backward, pack and unpack take tensors like x, or None."""
    if native.supports(x):
        return native
    return _triton(x.device) if x.is_cuda and x.dtype in TRITON_DTYPES else None


@cache
def _triton(device: torch.device) -> Any | None:
    """The kernels for a GPU; None without Triton, or for one that is older than it asks for."""
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    # Late, because importing Triton takes time, and on a CPU nobody needs it.
    return import_module("msr_zoo.kernels.triton_lif")
