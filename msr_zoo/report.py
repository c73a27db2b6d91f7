"""What the command line prints: bars, tables and figures in 80 columns, without colours."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msr_zoo.finetuning import Finetuned
from msr_zoo.isometry import BlockIsometry, mean_and_deviation
from msr_zoo.predict import Prediction

BAR = 40
LABEL = 24
WIDTH = 80


def bars(values: Mapping[str, float], unit: str = "", digits: int = 3) -> list[str]:
    """A line a value, its bar in proportion to the largest value."""
    width = min(LABEL, max(len(name) for name in values))
    top = max(*values.values(), 1e-12)
    blocks = _blocks()
    return [
        f"  {_cut(name):<{width}}  {value:>6.{digits}f}{unit}  {_bar(value / top, blocks)}".rstrip()
        for name, value in values.items()
    ]


def _cut(name: str) -> str:
    return name if len(name) <= LABEL else name[: LABEL - 3] + "..."


def _bar(fraction: float, blocks: str) -> str:
    whole, part = divmod(round(fraction * BAR * (len(blocks) - 1)), len(blocks) - 1)
    return blocks[-1] * whole + (blocks[part] if part else "")


def _blocks() -> str:
    """Signs from empty to full that the terminal can show."""
    return " ▏▎▍▌▋▊▉█" if _can_print("▏▎▍▌▋▊▉█") else " #"


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def table(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Lines of aligned columns; `right` names those of numbers. The first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if index in right else f"{cell:<{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def prediction(result: Prediction, model: str, *, windows: bool = False) -> list[str]:
    """The report on one picture or recording; with `windows`, on each of a recording's too."""
    activity, total = result.activity, result.activity.total
    steps = max((len(rates) for rates in activity.rates.values()), default=1)
    count = len(result.windows)
    over = f", mean over {count} window{'s' * (count > 1)}" if count else ""
    lines = [
        Path(result.picture).name,
        f"{model}, {steps} step{'s' * (steps > 1)}{over}",
        "",
        *bars({name: 100 * p for name, p in result.labels.items()}, " %", 1),
    ]
    if windows and count:
        lines += ["", *_windows(result)]
    if activity.rates:
        rates = {stage: float(rates.mean()) for stage, rates in activity.stage_rates.items()}
        neurons = sum(activity.neurons.values())
        lines += [
            "",
            "Firing rate of each stage, in spikes a neuron a step",
            *bars(rates),
            "",
            f"Spikes a neuron     {activity.spikes_per_neuron:.3f} over all steps, "
            f"mean of {neurons:,.0f} neurons",
        ]
    energy = f"Energy              {microjoules(total.joules)}"
    if activity.rates:
        energy += f"; the same network without spikes {microjoules(total.twin_joules)}"
    return [
        *lines,
        f"Operations          {rounded(total.ac / 1e6)} M accumulations, "
        f"{rounded(total.mac / 1e6)} M multiply-accumulates",
        energy,
        "                    (estimated for 45 nm: 0.9 and 4.6 pJ an operation)",
    ]


def _windows(result: Prediction) -> list[str]:
    """A line a window: seconds since the first one began, the best label, its probability."""
    start = result.windows[0].begin
    rows = [("FROM, s", "TO, s", "LABEL", "%")]
    for window in result.windows:
        label, probability = next(iter(window.labels.items()))
        begin, end = ((t - start) / 1e6 for t in (window.begin, window.end))
        rows.append((f"{begin:.3f}", f"{end:.3f}", _cut(label), f"{100 * probability:.1f}"))
    return table(rows, right=(0, 1, 3))


def bench(result: Mapping[str, Any]) -> list[str]:
    """The machine, the task, and a line a contestant."""
    batch, *_, height, width = result["input"]
    threads, kernels = result["threads"], result["kernels"]
    weights = "its weights" if result["trained"] else "random weights"
    lines = [
        f"{result['model']}, {weights}: {result['steps']} steps, batch {batch}, "
        f"{height} x {width} px, firing rate {result['firing_rate']:.3f}",
        f"{result['processor']}, {threads} thread{'s' * (threads > 1)}, "
        f"{kernels or 'no'} kernels, torch {result['torch']}",
        "",
    ]
    if result["why_not"]:
        lines += [f"The engine is left out, because {result['why_not']}.", ""]
    base = result["rows"][0]
    rows: list[Sequence[str]] = [("", "MS", "MS/INPUT", f"TO {base['name'].split(',')[0].upper()}")]
    for row in result["rows"]:
        ms = row["median_ms"]
        to_base = f"{ms / base['median_ms']:.2f}"
        rows.append((row["name"], f"{ms:.2f}", f"{ms / batch:.2f}", to_base))
    return [
        *lines,
        *table(rows, right=(1, 2, 3)),
        "",
        "MS is the median time of a batch, in the faster memory layout, all taking turns.",
        "bare convolutions: those of all steps at once, and nothing between them",
        "non-spiking twin: ReLU in the neurons' place, BN folded, ONE pass",
    ]


def finetuned(tuned: Finetuned) -> list[str]:
    """The confusion matrix, the accuracy, and where the model lies."""
    heads = [_cut(name)[:8] for name in tuned.classes]
    rows: list[Sequence[str]] = [("TRUE CLASS", *heads)]
    rows += [
        (_cut(name), *map(str, counts))
        for name, counts in zip(tuned.classes, tuned.confusion, strict=True)
    ]
    matrix = table(rows, right=range(1, len(rows)))
    if len(matrix[0]) > WIDTH:
        matrix = [f"Confusion matrix of {len(heads)} classes: {tuned.folder / 'confusion.png'}"]
    low, high = tuned.interval
    results = tuned.results
    return [
        *matrix,
        "",
        f"Accuracy    {tuned.accuracy:.1%} ({low:.1%} to {high:.1%}, 95 % interval of "
        f"{results['num_pictures']} samples)",
        f"Files       {results['files_right']} of {results['num_files']} right, by their samples",
        f"Tested on   {results['split']}",
        f"Wrote {tuned.folder}; try: msr-zoo predict --model {tuned.folder} FILE",
    ]


def isometry(blocks: Sequence[BlockIsometry]) -> list[str]:
    """A line a block, and the mean and the standard deviation over the blocks."""
    columns: list[list[float | None]] = [
        [block.phi for block in blocks],
        [block.phi_error for block in blocks],
        [block.spread for block in blocks],
        [block.spread_error for block in blocks],
        [block.gradient_ratio for block in blocks],
        [block.gradient_norm for block in blocks],
    ]
    rows: list[Sequence[str]] = [("BLOCK", "PHI", "+-", "SPREAD", "+-", "RATIO", "NORM")]
    for index, block in enumerate(blocks):
        rows.append([block.name, *(_short(values[index]) for values in columns)])
    over = [mean_and_deviation(values) or (None, None) for values in columns]
    for index, line in enumerate(("mean", "deviation")):
        cells = [_short(pair[index]) for pair in over]
        cells[1] = cells[3] = ""  # errors of single blocks
        rows.append([line, *cells])
    return [
        *table(rows, right=range(1, 7)),
        "",
        "PHI     tr(JJ^T)/m of the block's Jacobian J (m outputs); 1 keeps gradient norms",
        "SPREAD  variance of J's squared singular values; 0 keeps every gradient's alike",
        "+-      standard error of the random probes",
        "RATIO   gradient norm at the block's input, divided by that at its output",
        "NORM    gradient norm at the block's output, divided by that of the last block",
    ]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def microjoules(joules: float) -> str:
    return f"{rounded(joules * 1e6)} {'µJ' if _can_print('µ') else 'uJ'}"


def rounded(value: float, digits: int = 3) -> str:
    """To so many significant digits, written out up to a million: "0.123", "1,160"."""
    return f"{float(f'{value:.{digits}g}'):,g}"
