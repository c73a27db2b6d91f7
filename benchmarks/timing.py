"""Measuring side by side: contestants take turns in one process, so that drift meets all alike."""

import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=folder)
    except OSError:  # there is no git
        return ""
    return done.stdout.strip()


# Read once, at the start: what a long run executes does not change with the working tree. Results
# and texts change none of it.
COMMIT = _git("rev-parse", "HEAD") or "unknown"
ASIDE = [f":(top,exclude){what}" for what in ("*/results/*", "*/results.json", "*.md")]
UNCOMMITTED = bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/", *ASIDE))


def interleaved(
    contestants: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Milliseconds of each contestant over so many rounds; the first call of each is kept apart.

    Every round begins with another contestant, so none always runs behind the same neighbour.
    """
    ready = {name: _milliseconds(run, device) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for i in range(rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(_milliseconds(contestants[name], device))
    return {
        name: {
            "median_ms": round(statistics.median(t), 3),
            "min_ms": round(min(t), 3),
            "max_ms": round(max(t), 3),
            "n": len(t),
            "first_call_ms": round(ready[name], 3),
        }
        for name, t in times.items()
    }


def _milliseconds(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) * 1000


def provenance(module: str, device: torch.device, **more: Any) -> dict[str, Any]:
    """What a figure has to name: command, commit, versions, device, threads, date."""
    packages = ("torch", "timm", "spikingjelly", "numpy")
    on_gpu = device.type == "cuda"
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "commit": COMMIT,
        "uncommitted_changes": UNCOMMITTED,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in packages},
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        # Above the number of processors, something else was running too.
        "load_average": os.getloadavg()[0],
        **more,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{os.cpu_count()} cores"
    isa = torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else platform.machine()}, {cores}, {isa}"


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write results/`name`.json whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(path)
    return path
