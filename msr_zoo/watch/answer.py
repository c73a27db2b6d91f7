"""The answer forming: class probabilities after each step."""

from msr_zoo.watch.marks import escape, frames, path, percent
from msr_zoo.watch.trace import Trace

SHOWN = 5
LINES = 4
# Okabe and Ito's palette, told apart with every kind of colour vision; dashes repeat the telling.
DASHES = ("none", "7 3", "2 3", "9 3 2 3")
WIDTH, HEIGHT = 460, 150
LEFT, RIGHT, TOP, BOTTOM = 38, 110, 8, 22


def answer(trace: Trace, upto: int, seen: str) -> str:
    """The best classes at each step up to `upto` as bars, and how their probabilities went.

    `seen` is HTML that stands beside the bars.
    """
    bars = frames(lambda step: _bars(trace, step), upto, "div", upto)
    return f'<div class="mz-front"><div>{bars}</div>{seen}</div>{_lines(trace, upto)}'


def _bars(trace: Trace, step: int) -> str:
    rows = "".join(
        f'<li><span class="mz-label" title="{escape(label)}">{escape(label)}</span>'
        f'<span class="mz-bar"><i style="width:{100 * p:.1f}%"></i></span>'
        f'<span class="mz-value">{percent(p)}</span></li>'
        for label, p in trace.best(step, SHOWN)
    )
    best = trace.best(step, 1)[0][0]
    return (
        f'<p class="mz-best"><strong>{escape(best)}</strong>'
        f"<small>after step {step} of {trace.steps}</small></p>"
        f'<ol aria-label="Class probabilities after step {step}">{rows}</ol>'
    )


def _lines(trace: Trace, upto: int) -> str:
    """Probabilities of the classes that lead at the end of what is shown, over the steps."""
    if trace.steps == 1:
        return ""
    leaders = [label for label, _ in trace.best(upto, LINES)]
    columns = [trace.labels.index(label) for label in leaders]
    chances = trace.probabilities[:upto, columns].T.tolist()
    x = [LEFT + (WIDTH - LEFT - RIGHT) * t / (trace.steps - 1) for t in range(trace.steps)]

    def y(p: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - p)

    grid = "".join(
        f'<line class="mz-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(p):.1f}" y2="{y(p):.1f}"/>'
        f'<text class="mz-tick" x="{LEFT - 6}" y="{y(p) + 4:.1f}" text-anchor="end">'
        f"{100 * p:.0f} %</text>"
        for p in (0, 0.5, 1)
    )
    ticks = "".join(
        f'<text class="mz-tick" x="{place:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{t}</text>'
        for t, place in enumerate(x, start=1)
    )
    lines = ""
    for index, (label, values) in enumerate(zip(leaders, chances, strict=True)):
        points = [(x[t], y(p)) for t, p in enumerate(values)]
        dots = "".join(
            f'<circle class="c{index}" cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in points
        )
        lines += (
            f'<path class="mz-line c{index}" stroke-dasharray="{DASHES[index]}" '
            f'd="{path(points)}"><title>{escape(label)}</title></path>{dots}'
        )
    # Labels beside the ends, moved apart where they would overlap.
    placed: list[float] = []
    ends = sorted(
        (y(values[-1]), label, i)
        for i, (label, values) in enumerate(zip(leaders, chances, strict=True))
    )
    names = ""
    for rank, (place, label, index) in enumerate(ends):
        below = len(ends) - 1 - rank
        place = min(max([place, *placed[-1:]]), HEIGHT - BOTTOM - 12 * below)
        placed.append(place + 12)
        names += (
            f'<text class="mz-name c{index}" x="{WIDTH - RIGHT + 8}" y="{place + 4:.1f}">'
            f"{escape(label[:14])}</text>"
        )
    marker = frames(
        lambda step: (
            f'<line class="mz-now" x1="{x[step - 1]:.1f}" x2="{x[step - 1]:.1f}" '
            f'y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        ),
        upto,
        last=upto,
    )
    told = "; ".join(
        f"{label} {', '.join(percent(p) for p in values)}"
        for label, values in zip(leaders, chances, strict=True)
    )
    return (
        f'<svg class="mz-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"Probabilities after each step: {told}")}">'
        f"{grid}{marker}{lines}{names}{ticks}"
        f'<text class="mz-tick" x="{LEFT - 10}" y="{HEIGHT - 6}" text-anchor="end">step</text>'
        "</svg>"
    )
