"""What a figure has to name: commit, versions, device."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import msr_zoo


def provenance(device: torch.device, processes: int = 1) -> dict[str, Any]:
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    cuda = device.type == "cuda"
    return {
        "commit": commit.stdout.strip() or "unknown",
        "msr_zoo": msr_zoo.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def _processor() -> str:
    """The processor and its widest vectors, which decide what a CPU figure is worth."""
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"
