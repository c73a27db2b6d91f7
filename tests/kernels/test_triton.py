"""The kernels for GPUs: what they compute, what they compile to, and that a GPU's tensors get them.

Without a GPU, Triton's interpreter runs them, and its compiler makes their machine code.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")

import triton_cases
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from msr_zoo.kernels import fused, native, triton_lif
from msr_zoo.kernels.fused import TRITON_DTYPES
from msr_zoo.kernels.lif import lif

SIZES = {"steps", "neurons", "size"}
CONSTANTS = {"decay", "threshold", "half_window"}
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def test_the_interpreted_kernels_equal_the_loops_in_torch():
    script = Path(triton_cases.__file__)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "45 compared\n"


def machine_code(kernel, dtype: torch.dtype, sizes: str, capability: int) -> str:
    """PTX of a kernel, whose cubin ptxas made too; its sizes are "one", or "aligned" to 16."""
    signature, constants, aligned = {}, {"BYTES": triton_lif.BYTES}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in ("BYTES", "KEEP"):
            signature[name] = "constexpr"
            constants.setdefault(name, True)
        elif name in SIZES and sizes == "one":  # Triton makes constants of ones
            signature[name] = "constexpr"
            constants[name] = 1
        elif name in CONSTANTS:
            signature[name] = "fp32"
        else:
            floats = name in ("x", "spikes", "grad", "out")
            signature[name] = "i32" if name in SIZES else f"*{NAMES[dtype]}" if floats else "*u8"
            if name != "steps":
                aligned[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", capability, 32)
    compiled = compile(source, target=target, options={"enable_fp_fusion": False})
    assert compiled.asm["cubin"]
    return compiled.asm["ptx"]


@pytest.mark.parametrize("dtype", NAMES, ids=str)
@pytest.mark.parametrize("name", ["_forward", "_backward", "_pack", "_unpack"])
def test_the_kernels_compile_to_wide_accesses_and_unfused_products(
    name, dtype, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(triton_lif, name)
    assert machine_code(kernel, dtype, "one", 80)
    code = machine_code(kernel, dtype, "aligned", 90)
    assert "fma" not in code
    # Sixteen bytes at a time, of whatever is not bits; of half precision, a neuron's byte of bits
    # stays in one thread.
    wide = {"_pack": ["ld.global"], "_unpack": ["st.global"]}.get(name, ["ld.global", "st.global"])
    assert all(f"{access}.v4" in code for access in wide)
    if dtype != torch.float32:
        assert "shfl" not in code
        assert "bar.sync" not in code


class OnGPU:
    """What `fused` asks of a tensor."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.device, self.is_cuda = dtype, torch.device("cuda", 0), True


@pytest.mark.parametrize(
    ("dtype", "capability", "expected"),
    [
        (torch.bfloat16, (9, 0), triton_lif),
        (torch.float32, (8, 0), triton_lif),
        (torch.float64, (9, 0), None),
        (torch.float16, (7, 5), None),
    ],
)
def test_tensors_of_a_gpu_get_the_kernels_that_it_can_run(dtype, capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    fused._triton.cache_clear()
    assert fused.fused(OnGPU(dtype)) is expected
    fused._triton.cache_clear()


def test_tensors_of_the_cpu_never_get_them():
    x = torch.zeros(2, 8)
    assert fused.fused(x) is (native if native.library else None)
    assert fused.fused(x.double()) is None


@pytest.mark.gpu
def test_on_a_gpu_the_kernels_equal_the_loops_in_torch():
    assert triton_cases.check("cuda") == 45
    torch.manual_seed(0)
    for dtype in TRITON_DTYPES:
        x = torch.randn(6, 2100, dtype=dtype)
        results = []
        for device in ("cuda", "cpu"):
            own = x.to(device).requires_grad_()
            spikes = lif(own, 0.25, 0.5, 1.0)
            spikes.backward(x.flip(0).to(device))
            results.append((spikes.detach().cpu(), own.grad.cpu()))
        assert all(torch.equal(made, expected) for made, expected in zip(*results, strict=True))
