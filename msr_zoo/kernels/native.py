"""LIF in C++ for the CPU, loaded with ctypes; `library` is None where `problem` says why."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

# From plain C++ to AVX-512 with AMX (int8), which only the dense convolution of spikes uses.
ISAS = ("portable", "avx2", "avx512", "avx512vbmi2", "amx")
# That of `msr_abi` in csrc/isa.cpp: what is called here is what was built.
ABI = 3
DTYPES = {torch.float32: 0, torch.bfloat16: 1}

_POINTER, _LONG, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    "msr_select_isa": [_INT],
    "msr_isa": [],
    "msr_lif_forward": [_POINTER] * 4 + [_LONG] * 2 + [_FLOAT] * 3 + [_INT] * 2,
    "msr_lif_backward": [_POINTER] * 4 + [_LONG] * 2 + [_FLOAT] + [_INT] * 2,
    "msr_pack": [_POINTER] * 2 + [_LONG] * 2 + [_INT] * 2,
    "msr_unpack": [_POINTER] * 2 + [_LONG] * 2 + [_INT] * 2,
}


def load(path: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library, or the reason for which there is none."""
    if not path.exists():
        return None, "the native library was not built"
    try:
        # torch comes first (see the imports): the library finds OpenMP in what torch has loaded.
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"the native library failed to load: {error}"
    abi = loaded.msr_abi() if hasattr(loaded, "msr_abi") else 0
    if abi != ABI:
        return None, f"{path.name} was built from other sources (ABI {abi}, not {ABI}): build again"
    for name, arguments in _SIGNATURES.items():
        getattr(loaded, name).argtypes = arguments
    return loaded, ""


library, problem = load(Path(__file__).parents[1] / "_native.so")


def supports(x: Tensor) -> bool:
    """Tell whether the functions below take x."""
    return library is not None and x.device.type == "cpu" and x.dtype in DTYPES


def select_isa(level: int) -> int:
    """Use one of `ISAS` by its index; gives what is used.

    That is the best below it where the processor lacks what was asked for.
    """
    assert library is not None
    selected: int = library.msr_select_isa(level)
    return selected


def isa() -> str:
    """The instruction set in use."""
    assert library is not None
    return ISAS[library.msr_isa()]


def _contiguous(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            strides = tensor.stride()
            raise ValueError(f"{name} must be contiguous, got {tuple(tensor.shape)} by {strides}")


def _of_size(name: str, bits: Tensor, steps: int, size: int) -> None:
    shape = (steps, (size + 7) // 8)
    if bits.dtype != torch.uint8 or bits.shape != shape:
        raise ValueError(
            f"{name} must be uint8 {shape}, got {bits.dtype} {tuple(bits.shape)} for {size} neurons"
        )


def forward(
    x: Tensor, decay: float, threshold: float, half_window: float, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, N) of contiguous x (T, N); packed spikes and windows (T, ceil(N / 8)).

    Without `keep` the two packed tensors are (T, 0).
    """
    assert library is not None
    steps, neurons = x.shape
    _contiguous(x=x)
    spikes = torch.empty_like(x)
    fired = torch.empty((steps, (neurons + 7) // 8 if keep else 0), dtype=torch.uint8)
    window = torch.empty_like(fired)
    library.msr_lif_forward(
        x.data_ptr(),
        spikes.data_ptr(),
        fired.data_ptr() if keep else None,
        window.data_ptr() if keep else None,
        steps,
        neurons,
        decay,
        threshold,
        half_window,
        DTYPES[x.dtype],
        torch.get_num_threads(),
    )
    return spikes, fired, window


def backward(grad: Tensor, fired: Tensor, window: Tensor, decay: float) -> Tensor:
    """g_t = grad_t * window_t + decay * (1 - fired_t) * g_{t+1}, all contiguous (T, N)."""
    assert library is not None
    steps, neurons = grad.shape
    _contiguous(grad=grad, fired=fired, window=window)
    for name, bits in (("fired", fired), ("window", window)):
        _of_size(name, bits, steps, neurons)
    out = torch.empty_like(grad)
    library.msr_lif_backward(
        grad.data_ptr(),
        fired.data_ptr(),
        window.data_ptr(),
        out.data_ptr(),
        steps,
        neurons,
        decay,
        DTYPES[grad.dtype],
        torch.get_num_threads(),
    )
    return out


def pack(spikes: Tensor) -> Tensor:
    """Turn contiguous spikes (T, N) into uint8 (T, ceil(N / 8)); what is above 0 counts as one."""
    assert library is not None
    steps, size = spikes.shape
    _contiguous(spikes=spikes)
    bits = torch.empty((steps, (size + 7) // 8), dtype=torch.uint8)
    library.msr_pack(
        spikes.data_ptr(),
        bits.data_ptr(),
        steps,
        size,
        DTYPES[spikes.dtype],
        torch.get_num_threads(),
    )
    return bits


def unpack(bits: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Turn contiguous uint8 (T, ceil(size / 8)) into zeros and ones (T, size)."""
    assert library is not None
    _contiguous(bits=bits)
    _of_size("bits", bits, bits.shape[0], size)
    out = torch.empty((bits.shape[0], size), dtype=dtype)
    library.msr_unpack(
        bits.data_ptr(),
        out.data_ptr(),
        bits.shape[0],
        size,
        DTYPES[dtype],
        torch.get_num_threads(),
    )
    return out
