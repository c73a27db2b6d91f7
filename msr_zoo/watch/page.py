"""The page's body: one or two networks side by side, up to a step, and the player above them."""

import json
from collections.abc import Callable, Sequence
from html import escape
from urllib.parse import quote

from msr_zoo.watch.answer import answer
from msr_zoo.watch.cost import cost
from msr_zoo.watch.layer import Inside, layer_view, look
from msr_zoo.watch.network import network
from msr_zoo.watch.rates import rate_table
from msr_zoo.watch.recording import controls
from msr_zoo.watch.seen import seen
from msr_zoo.watch.stream import stream_chart
from msr_zoo.watch.trace import Trace

HEAD = """<div class="mz-hero"><h1>Watch a spiking network think</h1><p>At each step its neurons
send one bit or nothing, and only what fires costs energy. Give it a picture, or the recording of
an event camera, and see every layer at work.</p></div>"""
FOOT = """<p class="mz-foot">Figures are counted by <code>msr_zoo.activity</code>; energy is a count
of operations times a constant, not the measurement of a chip.</p>"""
UNTRAINED = '<span class="mz-untrained">untrained: random weights, its answer means nothing</span>'


def body(traces: Sequence[Trace], upto: int) -> str:
    """All that is seen of these networks up to a step; the last step shows."""
    steps = max(trace.steps for trace in traces)
    shown = min(upto, steps)

    def panel(kind: str, title: str, hint: str, drawn: Sequence[str]) -> str:
        return (
            f'<section class="mz-panel mz-{kind}"><h3>{title}</h3><p class="mz-hint">{hint}</p>'
            f"{_sides(traces, drawn, badge=kind == 'answer')}</section>"
        )

    at = [min(shown, trace.steps) for trace in traces]
    pairs = list(zip(traces, at, strict=True))
    panels = (
        panel(
            "answer",
            "The answer, forming",
            "Each step adds the spikes of the last layer; the linear layer reads their mean.",
            [answer(trace, t, seen(trace, t)) for trace, t in pairs],
        ),
        panel(
            "cost",
            "What it costs",
            "Counted for this input, all steps together.",
            [cost(trace) for trace in traces],
        ),
        panel(
            "blocks",
            "The network, block by block",
            "A disc is a layer of neurons, lit by its firing rate at this step. Potentials run "
            "along the line on top, spikes through the branch below. The small pictures show where "
            "a layer fires: the share of its channels, against the largest share in the layer. "
            "Choose a disc to look inside.",
            [network(trace, t) for trace, t in pairs],
        ),
        panel(
            "table",
            "Firing rates, layer by step",
            "Choose a layer to look inside.",
            [rate_table(trace, t) for trace, t in pairs],
        ),
        panel(
            "flow",
            "The stream of potentials",
            "What runs along the shortcuts, from the stem to the last neurons.",
            [stream_chart(trace, t) for trace, t in pairs],
        ),
    )
    two = " mz-two" if len(traces) > 1 else ""
    return (
        f'<div class="mz mz-view{two}" data-player="think" data-steps="{steps}">'
        f'<div class="mz-player" role="group" aria-label="Steps">{controls(steps, shown, "step")}'
        f"{_exports(traces)}</div>"
        f'<div class="mz-panels">{"".join(panels)}</div></div>'
    )


def detail(traces: Sequence[Trace], layer: str) -> Callable[[int], str]:
    """Draws, up to a step, one layer of the networks; one without that layer says so."""
    insides = [look(trace, layer) if layer in trace.rates else None for trace in traces]
    return lambda upto: _detail(traces, insides, layer, upto)


def _detail(
    traces: Sequence[Trace], insides: Sequence[Inside | None], layer: str, upto: int
) -> str:
    drawn = [
        layer_view(inside, min(upto, trace.steps))
        if inside
        else f'<p class="mz-note">{escape(trace.source.name)} has no layer {escape(layer)}.</p>'
        for trace, inside in zip(traces, insides, strict=True)
    ]
    two = " mz-two" if len(traces) > 1 else ""
    return (
        f'<div class="mz mz-detail{two}" data-follows="think"><section class="mz-panel">'
        f'<h3>Inside a layer</h3><p class="mz-hint">Spikes and potentials of every neuron in it.'
        f"</p>{_sides(traces, drawn, badge=False)}</section></div>"
    )


def activity_json(traces: Sequence[Trace]) -> str:
    """The activity of these networks, for other programs."""
    return json.dumps([trace.as_dict() for trace in traces], indent=1)


def problem(sentence: str) -> str:
    """What went wrong, where the answer would stand."""
    return f'<div class="mz"><p class="mz-problem" role="alert">{escape(sentence)}</p></div>'


def _sides(traces: Sequence[Trace], drawn: Sequence[str], *, badge: bool) -> str:
    sides = "".join(
        f'<div class="mz-side" data-steps="{trace.steps}">'
        f"{_heading(trace, len(traces) > 1, badge)}{html}</div>"
        for trace, html in zip(traces, drawn, strict=True)
    )
    return f'<div class="mz-sides">{sides}</div>'


def _heading(trace: Trace, several: bool, badge: bool) -> str:
    plain = UNTRAINED if badge and not trace.source.trained else ""
    steps = f"{trace.steps} step{'s' * (trace.steps > 1)}"
    name = f"<strong>{escape(trace.source.name)}</strong> <small>{steps}</small>"
    return f'<p class="mz-who">{name}{plain}</p>' if several or badge else ""


def _exports(traces: Sequence[Trace]) -> str:
    data = quote(activity_json(traces))
    return (
        '<span class="mz-exports" role="group" aria-label="Export">'
        '<button type="button" data-do="png">PNG</button>'
        '<button type="button" data-do="svg">SVG</button>'
        '<a download="activity.json" href="data:application/json;charset=utf-8,'
        f'{data}">JSON</a></span>'
    )
