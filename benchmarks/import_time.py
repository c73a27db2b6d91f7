"""Time of `import msr_zoo` beside `import timm`, in fresh interpreters that take turns.

python -m benchmarks.import_time
"""

import argparse
import subprocess
import sys

import torch

from benchmarks.timing import interleaved, provenance, write

GOAL = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    device = torch.device("cpu")

    def importing(package: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {package}"], check=True)

    packages = ("timm", "msr_zoo")
    times = interleaved({p: lambda p=p: importing(p) for p in packages}, options.rounds, device)
    ratio = times["msr_zoo"]["median_ms"] / times["timm"]["median_ms"]
    about = provenance("benchmarks.import_time", device, goal=GOAL)
    print(write("import_time", {**about, "times": times, "ratio": round(ratio, 3)}))
    print({name: t["median_ms"] for name, t in times.items()}, f"ratio {ratio:.3f}")
    if ratio >= GOAL:
        raise SystemExit(f"import takes {ratio:.2f} × the time of timm's, the goal is < {GOAL}")


if __name__ == "__main__":
    main()
