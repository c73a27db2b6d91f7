"""The few marks that the studies' figures are drawn with, as SVG."""

from collections.abc import Sequence
from html import escape


def document(width: float, height: float, marks: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join(
        [head, f'<rect width="{width}" height="{height}" fill="white"/>', *marks, "</svg>\n"]
    )


def line(points: Sequence[tuple[float, float]], colour: str, dashes: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" '
        f'stroke-dasharray="{dashes or "none"}"/>'
    )


def frame(left: float, top: float, width: float, height: float) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888"/>'
    )


def grid_line(left: float, y: float, width: float, label: str, strong: bool = False) -> list[str]:
    """A horizontal line across a frame, with its label at the left."""
    stroke = "#888" if strong else "#ddd"
    return [
        f'<path d="M{left} {y:.1f}h{width}" stroke="{stroke}"/>',
        text(left - 6, y + 4, label, "end"),
    ]


def text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def upright(x: float, y: float, words: str) -> str:
    """Words along a vertical axis, read from below."""
    return text(x, y, words, "middle", f' transform="rotate(-90 {x} {y})"')
