"""Write the tables of benchmarks/README.md from results/*.json; with --check, only compare.

python -m benchmarks.tables [--check]
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    readme = HERE / "README.md"
    text = readme.read_text()
    for name, table in TABLES.items():
        path = HERE / "results" / f"{name}.json"
        if path.exists():
            body = table(json.loads(path.read_text()))
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            text = re.sub(pattern, lambda m, body=body: m[1] + body + m[2], text, flags=re.DOTALL)
    if "--check" in sys.argv:
        if text != readme.read_text():
            raise SystemExit("benchmarks/README.md is not what python -m benchmarks.tables writes")
    else:
        readme.write_text(text)


def memory(result: dict[str, Any]) -> str:
    names = list(result["rows"][0]["bytes"])
    head = ["model, batch, precision", *(f"{name}, MiB" for name in names), "ours / SpikingJelly"]
    lines = [
        [
            f"{row['model']}, batch {result['batch']}, {row['precision']}",
            *(f"{row['bytes'][name] / 2**20:.0f}" for name in names),
            f"{row['ratios']['SpikingJelly']:.3f}",
        ]
        for row in result["rows"]
    ]
    return _table(head, lines)


def inference_training(result: dict[str, Any]) -> str:
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["best_layout_ms"]))
    head = ["task", *(f"{name}, ms" for name in names)]
    lines = [
        [
            f"{row['model']}, {row['task']}, batch {row['batch']}, {row['precision']}",
            *(_milliseconds(row["best_layout_ms"].get(name)) for name in names),
        ]
        for row in result["rows"]
    ]
    return _table(head, lines)


def step_share(result: dict[str, Any]) -> str:
    parts = list(result["rows"][0]["shares"])
    lines = [
        [
            f"{row['model']}, {row['size']} px, batch {row['batch']}, T {row['num_steps']}",
            f"{row['outside_convolutions']:.0%}",
            *(f"{row['shares'][part]:.0%}" for part in parts),
        ]
        for row in result["rows"]
    ]
    return _table(["training step", "outside the convolutions", *parts], lines)


def imagenet_epoch(result: dict[str, Any]) -> str:
    head = ["model", "step, ms", "pictures a second", "hours an epoch", "peak memory, GiB"]
    lines = [
        [
            f"{row['model']}, batch {row['batch']}, T {row['num_steps']}, {row['precision']}",
            _milliseconds(row["training_step"]["median_ms"]),
            f"{row['pictures_per_second']:.1f}",
            f"{row['epoch_hours']:.1f}",
            f"{row['peak_gib']:.2f} ({row['peak_of']})",
        ]
        for row in result["rows"]
    ]
    return _table(head, lines)


def import_time(result: dict[str, Any]) -> str:
    head = ["package", "median, ms", "over timm"]
    timm = result["times"]["timm"]["median_ms"]
    lines = [
        [f"`{name}`", f"{t['median_ms']:.0f}", f"{t['median_ms'] / timm:.2f}"]
        for name, t in result["times"].items()
    ]
    return _table(head, lines)


TABLES = {
    "inference_training": inference_training,
    "step_share": step_share,
    "imagenet_epoch": imagenet_epoch,
    "memory": memory,
    "import_time": import_time,
}


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    main()
