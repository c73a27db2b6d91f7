"""What a figure has to name: commit, versions, device."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import msr_zoo


def _git(*words: str) -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True)
    except OSError:  # there is no git
        return ""
    return done.stdout.strip()


# Read once, at the start: what a long run executes does not change with the working tree. Results
# and texts change none of it.
_ASIDE = [f":(top,exclude){what}" for what in ("*/results/*", "*/results.json", "*.md")]
COMMIT = _git("rev-parse", "HEAD") or "unknown"
UNCOMMITTED = bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/", *_ASIDE))


def provenance(device: torch.device, processes: int = 1) -> dict[str, Any]:
    cuda = device.type == "cuda"
    return {
        "commit": COMMIT,
        "uncommitted_changes": UNCOMMITTED,
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
