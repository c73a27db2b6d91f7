"""Write the tables of both READMEs from results/*.json; with --check, only compare.

    python -m benchmarks.tables [--check]

A table of results/NAME.json stands between `<!-- NAME -->` and `<!-- end -->`. A name that begins
as one of TABLES is the same benchmark's, of another machine.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.engine_groups import GROUPS, fastest, ratios

HERE = Path(__file__).parent


def main() -> None:
    for readme in (HERE / "README.md", HERE.parent / "README.md"):
        text = re.sub(r"<!-- (.+) -->\n(?:\|.*\n)*<!-- end -->", filled, readme.read_text())
        if "--check" not in sys.argv:
            readme.write_text(text)
        elif text != readme.read_text():
            raise SystemExit(f"{readme} is not what python -m benchmarks.tables writes")


def filled(place: re.Match[str]) -> str:
    """A table's place in a README, with the table."""
    name = place[1]
    result = json.loads((HERE / "results" / f"{name.partition(',')[0]}.json").read_text())
    table = max((key for key in TABLES if name.startswith(key)), key=len)
    return f"<!-- {name} -->\n{TABLES[table](result)}<!-- end -->"


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


# What a reader calls the instruction sets of the kernels, the fastest first.
KERNELS = {
    "amx": "AMX",
    "avx512vbmi2": "AVX-512",
    "avx512": "first AVX-512",
    "avx2": "AVX2",
    "portable": "SSE or Neon",
}


def by_machine(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The engine's rows, machine by machine, then by threads, networks always in one order."""
    rows, kernels = list(result["rows"].values()), [*KERNELS]
    models = list(dict.fromkeys(row["model"] for row in rows))
    return sorted(
        rows,
        key=lambda row: (
            kernels.index(row["kernels"]),
            row["threads"],
            models.index(row["model"]),
        ),
    )


def engine(result: dict[str, Any]) -> str:
    lines = []
    for row in by_machine(result):
        threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
        name = f"{row['model']}, batch {row['input'][0]}, {threads}, {KERNELS[row['kernels']]}"
        for way in (name for name in row["times"] if name.startswith("engine")):
            parts = ratios(row, way)
            cells = [
                f"{parts[group]:.2f} of {_milliseconds(fastest(row, group))}"
                if group in parts
                else "–"
                for group in GROUPS
            ]
            lines.append(
                [
                    name,
                    way.removeprefix("engine, "),
                    _milliseconds(row["times"][way]["median_ms"]),
                    *cells,
                ]
            )
    return _table(["network", "engine's weights", "engine, ms", *GROUPS], lines)


def engine_in_short(result: dict[str, Any]) -> str:
    """One thread's milliseconds: what a user gets, and what it stands beside."""
    groups = (
        "bare convolutions, float32",
        "bare convolutions, bfloat16",
        "SpikingJelly, eager",
        "SpikingJelly, compiled",
        "non-spiking twin, float32",
        "non-spiking twin, bfloat16",
    )
    lines = []
    for row in by_machine(result):
        if row["threads"] == 1:
            mine = [row["times"][f"engine, {w}"]["median_ms"] for w in ("float32", "int8")]
            others = [fastest(row, group) for group in groups]
            batch, kernels = row["input"][0], KERNELS[row["kernels"]]
            name = f"`{row['model']}`, batch {batch}, T {row['steps']}, {kernels}"
            lines.append([name, *(_milliseconds(ms) for ms in (*mine, *others))])
    return _table(["milliseconds", "engine, float32", "engine, int8", *groups], lines)


def engine_memory(result: dict[str, Any]) -> str:
    head = ["network", "way", "first call, MiB", "kept, MiB", "later peak, MiB", "first answer, ms"]
    lines = []
    for name, row in result["rows"].items():
        for way in (key for key in row if key != "batch"):
            figures = row[way]
            fields = ("first_call_mib", "kept_mib", "peak_mib", "first_answer_cpu_ms")
            lines.append(
                [f"{name}, batch {row['batch']}", way, *(str(round(figures[f])) for f in fields)]
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
    "step_share": step_share,
    "imagenet_epoch": imagenet_epoch,
    "memory": memory,
    "import_time": import_time,
    "engine": engine,
    "engine, in short": engine_in_short,
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
