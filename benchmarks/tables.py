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


def import_time(result: dict[str, Any]) -> str:
    head = ["package", "median, ms", "over timm"]
    timm = result["times"]["timm"]["median_ms"]
    lines = [
        [f"`{name}`", f"{t['median_ms']:.0f}", f"{t['median_ms'] / timm:.2f}"]
        for name, t in result["times"].items()
    ]
    return _table(head, lines)


def engine(result: dict[str, Any]) -> str:
    lines = []
    for row in result["rows"].values():
        best = {group: fastest(row, group) for group in ENGINE_GROUPS}
        threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
        for kind, ratios in row["engine_to"].items():
            lines.append(
                [
                    f"{row['model']}, batch {row['input'][0]}, {threads}",
                    kind.removeprefix("engine, "),
                    _milliseconds(row["times"][kind]["median_ms"]),
                    *(
                        f"{ratios[group]:.2f} of {_milliseconds(ms)}" if ms else "–"
                        for group, ms in best.items()
                    ),
                ]
            )
    return _table(["network", "engine's weights", "engine, ms", *ENGINE_GROUPS], lines)


def fastest(row: dict[str, Any], group: str) -> float | None:
    """Milliseconds of the fastest contestant of a group that was measured."""
    names = [name for name in row["times"] if name.startswith(ENGINE_GROUPS[group])]
    return min((row["times"][name]["median_ms"] for name in names), default=None)


# A column's heading, and how the names of its contestants begin.
ENGINE_GROUPS = {
    "torch, float32": "torch, float32",
    "bare convolutions, float32": "bare convolutions, float32",
    "bare convolutions, bfloat16": "bare convolutions, bfloat16",
    "SpikingJelly at its best": "SpikingJelly",
    "non-spiking twin, float32": "non-spiking twin, float32",
    "non-spiking twin, bfloat16": "non-spiking twin, bfloat16",
    "twin's bare convolutions, int8": "twin's bare convolutions, int8",
}


def engine_memory(result: dict[str, Any]) -> str:
    head = ["network", "way", "kept, MiB", "in a call, MiB", "peak, MiB", "first answer, ms"]
    lines = []
    for name, row in result["rows"].items():
        for way in (key for key in row if key != "batch"):
            figures = row[way]
            fields = ("kept_mib", "call_mib", "peak_mib", "first_answer_cpu_ms")
            lines.append(
                [f"{name}, batch {row['batch']}", way, *(f"{figures[f]:.0f}" for f in fields)]
            )
    return _table(head, lines)


def engine_agreement(result: dict[str, Any]) -> str:
    head = ["weights", "top-1", "same answer as torch", "least equal layer"]
    lines = [["torch, float32", f"{100 * result['top1']['torch']:.2f} %", "–", "–"]]
    for weights, same in result["same_top1_as_torch"].items():
        least = min(result["least_equal_layer"].values())
        spikes = f"{100 * least:.3f} % of its spikes" if weights == "float32" else "–"
        top1 = f"{100 * result['top1'][weights]:.2f} %"
        lines.append([f"engine, {weights}", top1, f"{100 * same:.2f} %", spikes])
    return _table(head, lines)


TABLES = {
    "inference_training": inference_training,
    "memory": memory,
    "import_time": import_time,
    "engine": engine,
    "engine_memory": engine_memory,
    "engine_agreement": engine_agreement,
}


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    main()
