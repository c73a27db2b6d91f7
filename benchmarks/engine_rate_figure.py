"""The figure of the cost at each firing rate, an SVG: a panel a layer, and one of a network."""

from collections.abc import Sequence
from html import escape
from typing import Any

# Okabe and Ito's colours, told apart by the colour-blind; the dashes help in print.
STYLES = {
    "events, float32": ("#0072B2", ""),
    "events, int8": ("#56B4E9", "6 3"),
    "tiles, float32": ("#D55E00", ""),
    "tiles, int8": ("#E69F00", "6 3"),
    "engine, float32": ("#009E73", ""),
    "engine, int8": ("#009E73", "6 3"),
    "dense, float32": ("#555555", "2 2"),
    "dense, bfloat16": ("#999999", "2 2"),
    "torch, float32": ("#555555", "2 2"),
}
WIDTH, HEIGHT, LEFT, TOP, GAP, LEGEND = 230, 190, 60, 70, 66, 150


def draw(rates: Sequence[float], panels: list[dict[str, Any]]) -> str:
    """Milliseconds over the rate, on linear axes that begin at nothing."""
    columns = -(-len(panels) // 2)
    width = LEFT + columns * (WIDTH + GAP)
    height = TOP + 2 * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    shown = [s for s in STYLES if any(s in p["ms"] or s in p["dense_ms"] for p in panels)]
    for index, label in enumerate(shown):
        left, top = LEFT + index % 5 * LEGEND, 16 + index // 5 * 18
        parts += [_line([(left, top), (left + 28, top)], label), _text(left + 34, top + 4, label)]
    for index, panel in enumerate(panels):
        left = LEFT + index % columns * (WIDTH + GAP)
        parts += _panel(rates, panel, left, TOP + index // columns * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>\n"])


def _panel(rates: Sequence[float], panel: dict[str, Any], left: float, top: float) -> list[str]:
    flat = {name: [ms] * len(rates) for name, ms in panel["dense_ms"].items()}
    curves = {**flat, **panel["ms"]}
    most = _ceiling(max(max(curve) for curve in curves.values()))
    bottom = top + HEIGHT
    parts = [
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>',
        _text(left + WIDTH / 2, top - 8, panel["name"], "middle"),
        _text(left + WIDTH / 2, bottom + 34, "firing rate of the input", "middle"),
        _text(left - 44, top + HEIGHT / 2, "ms"),
    ]
    for quarter in range(5):
        y = bottom - HEIGHT * quarter / 4
        parts.append(_text(left - 6, y + 4, f"{most * quarter / 4:g}", "end"))
        parts.append(f'<path d="M{left:.1f} {y:.1f}h{WIDTH}" stroke="#ddd" fill="none"/>')
    for tick in range(0, round(10 * max(rates)) + 1, 2):
        x = left + WIDTH * tick / 10 / max(rates)
        parts.append(_text(x, bottom + 16, f"{tick / 10:g}", "middle"))
    for name, curve in curves.items():
        points = [
            (left + WIDTH * rate / max(rates), bottom - HEIGHT * ms / most)
            for rate, ms in zip(rates, curve, strict=True)
        ]
        parts.append(_line(points, name))
    return parts


def _ceiling(value: float) -> float:
    """The least of 1, 2, 4, 6, 8 times a power of ten that is not below the value."""
    power = 10.0 ** len(str(int(value))) / 10
    return next(n * power for n in (1, 2, 4, 6, 8, 10) if n * power >= value)


def _line(points: Sequence[tuple[float, float]], label: str) -> str:
    colour, dashes = STYLES[label]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
