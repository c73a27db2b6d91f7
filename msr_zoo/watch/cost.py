"""What an answer cost: spikes, operations, energy; and the formula behind them."""

from msr_zoo.activity import JOULES_PER_AC, JOULES_PER_MAC
from msr_zoo.report import rounded
from msr_zoo.watch.marks import number
from msr_zoo.watch.trace import Trace


def cost(trace: Trace) -> str:
    """Figures of `msr_zoo.activity` for the whole input, beside the non-spiking twin's."""
    activity, total = trace.activity, trace.activity.total
    neurons = sum(activity.neurons.values())
    figures = (
        (
            "Spikes a neuron",
            f"{activity.spikes_per_neuron:.3f}",
            f"{number(neurons)} neurons, {trace.steps} step{'s' * (trace.steps > 1)}",
        ),
        ("Accumulations", number(total.ac), "a spike adds a weight"),
        ("Multiplications", number(total.mac), "of real-valued inputs"),
    )
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>"
        for name, value, note in figures
    )
    top = max(total.joules, total.twin_joules)
    bars = "".join(
        f'<li><span class="mz-label">{name}</span><span class="mz-bar {kind}">'
        f'<i style="width:{100 * joules / top:.1f}%"></i></span>'
        f'<span class="mz-value">{rounded(joules * 1e6)} µJ</span></li>'
        for name, joules, kind in (
            ("spiking", total.joules, "spiking"),
            ("its twin", total.twin_joules, "twin"),
        )
    )
    return (
        f'<dl class="mz-figures">{cells}</dl><ol class="mz-energy" aria-label="Energy">{bars}</ol>'
        f'<p class="mz-note">{_ratio(total.joules, total.twin_joules)}</p>{_formula(trace)}'
    )


def _ratio(joules: float, twin: float) -> str:
    if joules <= twin:
        return (
            f"The same network without spikes (ReLU, one step) needs {twin / joules:.1f} × as much."
        )
    return f"This is {joules / twin:.1f} × what the same network without spikes (ReLU) needs."


def _formula(trace: Trace) -> str:
    total = trace.activity.total
    mac, ac = JOULES_PER_MAC * 1e12, JOULES_PER_AC * 1e12
    return (
        "<details><summary>Formula and assumptions</summary>"
        f"<p><code>energy = {mac:g} pJ · MAC + {ac:g} pJ · AC</code><br>"
        f"<code>{rounded(total.joules * 1e6, 4)} µJ = {mac:g} pJ · {total.mac:,.0f} + {ac:g} pJ · "
        f"{total.ac:,.0f}</code><br>"
        f"<code>twin: {rounded(total.twin_joules * 1e6, 4)} µJ = {mac:g} pJ · "
        f"{total.twin_mac:,.0f}</code>"
        "</p><ul><li>A layer that sees spikes accumulates: AC = rate of its input · T · MAC of the "
        "layer.</li><li>A layer that sees real values multiplies as often as it is computed: the "
        "stem once for a still picture, T times for a recording.</li><li>Constants of a 45 nm "
        "process, 32-bit floating point (Horowitz, ISSCC 2014). Memory, the neurons' own updates, "
        "normalisation and the shortcuts' additions are left out, as in Hu et al. (TNNLS 2024). "
        "It is a count, not the measurement of a chip.</li></ul></details>"
    )
