"""The figure of the isometry study, an SVG: gradient norm and φ by block, a column a depth."""

import math
from statistics import geometric_mean
from typing import Any

from studies import svg

# Okabe and Ito's colours, told apart by the colour-blind; the dashes help in print.
STYLES = {
    "MS-ResNet": ("#0072B2", ""),
    "MS-ResNet, last γ 0.5": ("#56B4E9", "6 3"),
    "spiking ResNet": ("#D55E00", "2 2"),
    "SEW-ResNet": ("#009E73", "8 2 2 2"),
}
ROWS = {"gradient_norm": "gradient norm / that at the last block", "phi": "φ(JJᵀ)"}
WIDTH, HEIGHT, LEFT, TOP, GAP, LEGEND = 330, 210, 70, 64, 60, 165


def draw(runs: list[dict[str, Any]]) -> str:
    """Curves over the blocks, geometric means over seeds, on logarithmic axes."""
    columns = list(dict.fromkeys((run["state"], run["depth"]) for run in runs))
    width = LEFT + max(len(columns) * (WIDTH + GAP), len(STYLES) * LEGEND)
    height = TOP + len(ROWS) * (HEIGHT + GAP)
    parts = []
    shown = [label for label in STYLES if any(run["network"] == label for run in runs)]
    for index, label in enumerate(shown):
        left = LEFT + index * LEGEND
        parts.append(svg.line([(left, 16), (left + 28, 16)], *STYLES[label]))
        parts.append(svg.text(left + 34, 20, label))
    for row, (field, title) in enumerate(ROWS.items()):
        top = TOP + row * (HEIGHT + GAP)
        curves = [(run, _curve(run, field)) for run in runs]
        low, high = _decades([value for _, curve in curves for value in curve if value])
        for column, (state, depth) in enumerate(columns):
            left = LEFT + column * (WIDTH + GAP)
            parts += _axes(left, top, low, high)
            middle = left + WIDTH / 2
            parts.append(svg.text(middle, top - 8, f"depth {depth}, {state}", "middle"))
            parts.append(svg.text(middle, top + HEIGHT + 32, "block", "middle"))
            for run, curve in curves:
                if (run["state"], run["depth"]) != (state, depth):
                    continue
                across = WIDTH / max(1, len(curve) - 1)
                points = [
                    (left + i * across, top + HEIGHT * (high - math.log10(v)) / (high - low))
                    for i, v in enumerate(curve)
                    if v  # a gradient of 0 has no place on a logarithmic axis
                ]
                parts.append(svg.line(points, *STYLES[run["network"]]))
                parts.append(svg.text(left, top + HEIGHT + 16, "1", "middle"))
                parts.append(svg.text(left + WIDTH, top + HEIGHT + 16, str(len(curve)), "middle"))
        parts.append(svg.upright(16, top + HEIGHT / 2, title))
    return svg.document(width, height, parts)


def _curve(run: dict[str, Any], field: str) -> list[float | None]:
    seeds = zip(*run["by_seed"].values(), strict=True)
    blocks = [[block[field] for block in seed] for seed in seeds]
    return [geometric_mean(values) if all(values) else None for values in blocks]


def _decades(values: list[float]) -> tuple[int, int]:
    """Whole powers of ten around the values, and around 1."""
    low = math.floor(math.log10(min([*values, 1.0])))
    high = math.ceil(math.log10(max([*values, 1.0])))
    return (low, high) if low < high else (low - 1, high + 1)


def _axes(left: float, top: float, low: int, high: int) -> list[str]:
    parts = [svg.frame(left, top, WIDTH, HEIGHT)]
    every = math.ceil((high - low) / 6)
    for power in range(low, high + 1):
        if power % every:
            continue
        y = top + HEIGHT * (high - power) / (high - low)
        parts += svg.grid_line(left, y, WIDTH, f"1e{power}" if power else "1", power == 0)
    return parts
