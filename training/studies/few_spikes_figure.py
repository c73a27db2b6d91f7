"""The figure of the few-spikes study, an SVG: accuracy against spikes a neuron, and against T."""

import math
from typing import Any

from studies import svg

# Okabe and Ito's colours, told apart by the colour-blind; the dashes help in print.
STYLES = (
    ("#0072B2", ""),
    ("#009E73", "8 2 2 2"),
    ("#E69F00", "6 3"),
    ("#D55E00", "2 2"),
    ("#CC79A7", "1 3"),
    ("#000000", "10 4"),
)
WIDTH, HEIGHT, LEFT, TOP, GAP, LEGEND = 330, 230, 70, 64, 70, 110


def draw(results: dict[str, Any]) -> str:
    """A mark a penalty at the left, a curve a penalty at the right."""
    points = results["points"]
    shares = [share for point in points for share in point["top1_by_step"]]
    low, high = math.floor(50 * min(shares)) / 50, math.ceil(50 * max(shares)) / 50
    high = max(high, low + 0.02)
    spikes = [point["activity"]["spikes_per_neuron"] for point in points]
    most = math.ceil(10 * max(spikes)) / 10 or 0.1

    def height(share: float) -> float:
        return TOP + HEIGHT * (high - share) / (high - low)

    title = f"{results['weights']} trained on with a penalty on its firing rate; {results['data']}"
    marks = [svg.text(LEFT, 18, f"{title}, n = {results['n']}")]
    lefts = (LEFT, LEFT + WIDTH + GAP)
    for left, label in zip(lefts, ("spikes a neuron a picture", "after step"), strict=True):
        marks.append(svg.frame(left, TOP, WIDTH, HEIGHT))
        marks.append(svg.text(left + WIDTH / 2, TOP + HEIGHT + 32, label, "middle"))
        for part in range(5):
            share = low + part * (high - low) / 4
            marks += svg.grid_line(left, height(share), WIDTH, f"{share:.1%}")
    marks.append(svg.upright(16, TOP + HEIGHT / 2, "test top-1"))
    for part in range(5):
        x = LEFT + part * WIDTH / 4
        marks.append(svg.text(x, TOP + HEIGHT + 16, f"{part * most / 4:.2g}", "middle"))
    steps = max(len(point["top1_by_step"]) for point in points)
    across = WIDTH / max(1, steps - 1)
    for step in range(steps):
        marks.append(svg.text(lefts[1] + step * across, TOP + HEIGHT + 16, str(step + 1), "middle"))
    for index, (point, rate) in enumerate(zip(points, spikes, strict=True)):
        colour, dashes = STYLES[index % len(STYLES)]
        name = f"penalty {point['penalty']:g}"
        key = LEFT + index * LEGEND
        marks.append(svg.line([(key, 38), (key + 28, 38)], colour, dashes))
        marks.append(svg.text(key + 34, 42, name))
        x, y = LEFT + WIDTH * rate / most, height(point["top1"][0])
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}">'
            f"<title>{name}: {point['top1'][0]:.2%}, {rate:.3f} spikes a neuron</title></circle>"
        )
        curve = [
            (lefts[1] + step * across, height(share))
            for step, share in enumerate(point["top1_by_step"])
        ]
        marks.append(svg.line(curve, colour, dashes))
    width = max(lefts[1] + WIDTH + 30, LEFT + len(points) * LEGEND)
    return svg.document(width, TOP + HEIGHT + 50, marks)
