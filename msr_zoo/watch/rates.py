"""Firing rates as a table: a row a layer, a cell a step, and a bar for the step that is shown."""

from msr_zoo.watch.marks import RATE_TOP, escape, frames, legend, level
from msr_zoo.watch.trace import Trace


def rate_table(trace: Trace, upto: int, prefix: str) -> str:
    """The heat map layer × step; cells of steps after `upto` are empty."""
    head = "".join(f'<th scope="col">{step}</th>' for step in range(1, trace.steps + 1))
    rows = "".join(_row(trace, layer, upto, prefix) for layer in trace.layers)
    return (
        f'<div class="mz-scroll" tabindex="0" role="region" aria-label="Firing rates">'
        f'<table class="mz-rates"><caption>Spikes a neuron at each step</caption>'
        f'<thead><tr><th scope="col">layer</th>{head}<th scope="col">rate at this step</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>{legend()}"
    )


def _row(trace: Trace, layer: str, upto: int, prefix: str) -> str:
    rates = trace.rates[layer].tolist()
    cells = "".join(
        f'<td class="l{level(rate)}" title="{layer}, step {step}: {rate:.4f}">{rate:.2f}</td>'
        if step <= upto
        else "<td></td>"
        for step, rate in enumerate(rates, start=1)
    )
    bar = frames(
        lambda step: (
            f'<i style="width:{100 * min(1, rates[step - 1] / RATE_TOP):.1f}%"></i>'
            f"<span>{rates[step - 1]:.3f}</span>"
        ),
        upto,
        "span",
        upto,
    )
    return (
        f'<tr><th scope="row"><button type="button" data-layer="{escape(layer)}" '
        f'data-side="{prefix}">{escape(layer)}</button></th>{cells}'
        f'<td class="mz-ratebar">{bar}</td></tr>'
    )
