"""The stream of potentials that runs along the shortcuts, from the stem to the last neurons."""

from msr_zoo.watch.marks import escape, frames, path
from msr_zoo.watch.trace import Trace, block_of

WIDTH, HEIGHT = 400, 330
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 12, 26


def stream_chart(trace: Trace, upto: int) -> str:
    """Mean and 90 % band of the stream's potentials over depth, a frame a step."""
    flows = trace.flows
    threshold = trace.neurons[trace.streams[0]][1]
    every = [f for one in flows for f in one]
    bottom = min(0.0, *(f.low for f in every))
    top = max(threshold, *(f.high for f in every))
    count = len(trace.streams)

    def x(index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / max(1, count - 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (top - value) / (top - bottom)

    def draw(step: int) -> str:
        one = flows[step - 1]
        upper = [(x(i), y(f.high)) for i, f in enumerate(one)]
        lower = [(x(i), y(f.low)) for i, f in enumerate(one)]
        dots = "".join(
            f'<circle class="c0" cx="{x(i):.1f}" cy="{y(f.mean):.1f}" r="3"><title>'
            f"before {escape(f.block)}: mean {f.mean:.3f}, 90 % between {f.low:.3f} and "
            f"{f.high:.3f}</title></circle>"
            for i, f in enumerate(one)
        )
        middle = path((x(i), y(f.mean)) for i, f in enumerate(one))
        told = ", ".join(f"{f.block} {f.mean:.2f}" for f in one)
        return (
            f"<title>Mean potential before each block at step {step}: {escape(told)}</title>"
            f'<path class="mz-band" d="{path([*upper, *reversed(lower)])}Z"/>'
            f'<path class="mz-line c0" d="{middle}"/>{dots}'
        )

    lines = "".join(
        f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" '
        f'y2="{y(value):.1f}"/><text class="mz-tick" x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
        f'text-anchor="end">{value:.1f}</text>'
        for kind, value in _grid(bottom, top, threshold)
    )
    every_nth = max(1, count // 8)
    names = "".join(
        f'<text class="mz-tick" x="{x(i):.1f}" y="{HEIGHT - 8}" '
        f'text-anchor="{_anchor(i, count)}">{escape(block_of(layer).removeprefix("layer"))}</text>'
        for i, layer in enumerate(trace.streams)
        if i % every_nth == 0
    )
    return (
        f'<svg class="mz-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Potentials '
        f'in the shortcut stream before each block: mean and the range of 90 %">'
        f"{lines}{frames(draw, upto, last=upto)}{names}"
        f'<text class="mz-tick mz-thr" x="{WIDTH - RIGHT}" y="{y(threshold) - 5:.1f}" '
        f'text-anchor="end">threshold {threshold:g}</text></svg>'
        '<p class="mz-note">Line: mean potential in the stream before each block. Band: where 90 % '
        "of the potentials lie. Unit: that of the threshold.</p>"
    )


def _anchor(index: int, count: int) -> str:
    return "start" if index == 0 else "end" if index == count - 1 else "middle"


def _grid(bottom: float, top: float, threshold: float) -> list[tuple[str, float]]:
    ends = [value for value in (bottom, 0.0, top) if abs(value - threshold) > 0.08 * (top - bottom)]
    lines = [("mz-grid", value) for value in dict.fromkeys(ends)]
    return [*lines, ("mz-threshold", threshold)]
