"""One autocast rule for our operators: float32 goes in as the dtype that autocast is set to."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("msr_zoo", "FRAGMENT")


def register_autocast(name: str, op: Callable[..., Any]) -> None:
    """Give `msr_zoo::name` the rule that torch gives convolutions, on CPU and CUDA.

    `CustomOpDef.register_autocast` takes one dtype for all time; this one asks autocast.
    """
    for device_type, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):

        def rule(*args: Any, device_type: str = device_type) -> Any:
            dtype = torch.get_autocast_dtype(device_type)
            with torch.autocast(device_type, enabled=False):
                return op(*(_cast(a, dtype) for a in args))

        _library.impl(name, rule, key)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floating and value.dtype != torch.float64 else value
