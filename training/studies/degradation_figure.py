"""The figure of the depth study, an SVG: accuracy by epoch, a column a network, a curve a depth."""

import math
from statistics import mean
from typing import Any

from studies import svg

# Okabe and Ito's colours, told apart by the colour-blind; the dashes help in print.
STYLES = {
    20: ("#56B4E9", ""),
    32: ("#009E73", "8 2 2 2"),
    56: ("#E69F00", "6 3"),
    110: ("#D55E00", "2 2"),
    482: ("#000000", "1 3"),
}
ROWS = {"train_top1": "training top-1", "top1": "test top-1"}
WIDTH, HEIGHT, LEFT, TOP, ACROSS, DOWN, LEGEND = 190, 190, 70, 86, 24, 60, 105


def draw(results: dict[str, Any]) -> str:
    """Curves over the epochs, means over the seeds; what was run stands above them."""
    runs = results["runs"]
    networks = list(dict.fromkeys(run["network"] for run in runs))
    depths = sorted({run["depth"] for run in runs})
    epochs = max(len(run["history"]) for run in runs)
    highest = max(epoch[row] for run in runs for epoch in run["history"] for row in ROWS)
    ceiling = math.ceil(10 * highest) / 10
    marks = [svg.text(LEFT, 18, f"{results['data']}, {results['plan']}; n = {results['n']}")]
    for index, depth in enumerate(depths):
        left = LEFT + index * LEGEND
        marks.append(svg.line([(left, 38), (left + 28, 38)], *STYLES[depth]))
        marks.append(svg.text(left + 34, 42, f"depth {depth}"))
    for row, (field, title) in enumerate(ROWS.items()):
        top = TOP + row * (HEIGHT + DOWN)
        marks.append(svg.upright(16, top + HEIGHT / 2, title))
        for column, network in enumerate(networks):
            left = LEFT + column * (WIDTH + ACROSS)
            marks.append(svg.frame(left, top, WIDTH, HEIGHT))
            for tenth in range(round(10 * ceiling) + 1):
                y = top + HEIGHT * (1 - tenth / 10 / ceiling)
                marks += svg.grid_line(left, y, WIDTH, "" if column else f"{10 * tenth} %")
            marks.append(svg.text(left + WIDTH / 2, top - 8, network, "middle"))
            marks.append(svg.text(left, top + HEIGHT + 16, "1", "middle"))
            marks.append(svg.text(left + WIDTH / 2, top + HEIGHT + 16, "epoch", "middle"))
            marks.append(svg.text(left + WIDTH, top + HEIGHT + 16, str(epochs), "middle"))
            for depth in depths:
                chosen = [r for r in runs if (r["network"], r["depth"]) == (network, depth)]
                if not chosen:
                    continue
                histories = zip(*(run["history"] for run in chosen), strict=True)
                values = [mean(epoch[field] for epoch in seeds) for seeds in histories]
                step = WIDTH / max(1, epochs - 1)
                points = [
                    (left + i * step, top + HEIGHT * (1 - value / ceiling))
                    for i, value in enumerate(values)
                ]
                marks.append(svg.line(points, *STYLES[depth]))
    width = LEFT + max(4, len(networks)) * (WIDTH + ACROSS)
    return svg.document(width, TOP + len(ROWS) * (HEIGHT + DOWN), marks)
