"""The network as its residual blocks in order, each neuron layer lit by its firing rate."""

from itertools import groupby

from msr_zoo.watch.marks import escape, frames, legend, level, share_picture
from msr_zoo.watch.trace import Trace

# One block's tile: the stream of potentials runs along the top, the branch below it.
STREAM_Y, BRANCH_Y, TILE, TILE_HEIGHT = 14, 48, 132, 66
ROOMY = 24  # blocks up to which tiles show their convolutions


def network(trace: Trace, upto: int, prefix: str) -> str:
    """Stages of tiles, each LIF layer a button that carries its name, lit at each step.

    `prefix` tells the network apart from another one on the same page.
    """
    roomy = len(trace.blocks) <= ROOMY
    rows = []
    for stage, names in groupby(trace.blocks, key=lambda block: block.partition(".")[0]):
        blocks = list(names)
        tiles = "".join(_tile(trace, block, upto, prefix, roomy) for block in blocks)
        rows.append(
            f'<div class="mz-stage"><h4>{_title(trace, stage, blocks)}</h4>'
            f'<div class="mz-tiles">{tiles}</div></div>'
        )
    size = "" if roomy else " mz-compact"
    return f'<div class="mz-network{size}">{"".join(rows)}</div>{legend()}'


def _title(trace: Trace, stage: str, blocks: list[str]) -> str:
    channels, height, width = trace.shapes[trace.blocks[blocks[-1]][-1]]
    size = f"{channels} channels of {height} × {width}"
    if "." not in blocks[0]:
        return f"Last neurons <small>{size}</small>"
    count = f"{len(blocks)} block{'s' * (len(blocks) > 1)}"
    return f"Stage {stage.removeprefix('layer')} <small>{count}, {size}</small>"


def _tile(trace: Trace, block: str, upto: int, prefix: str, roomy: bool) -> str:
    layers = trace.blocks[block]
    buttons = "".join(_neurons(trace, layer, upto, prefix, roomy) for layer in layers)
    return f'<div class="mz-tile n{len(layers)}">{_wires(layers) if roomy else ""}{buttons}</div>'


def _neurons(trace: Trace, layer: str, upto: int, prefix: str, roomy: bool) -> str:
    rates = trace.rates[layer].tolist()

    def lit(step: int) -> str:
        disc = f'<b class="l{level(rates[step - 1])}"></b><small>{rates[step - 1]:.2f}</small>'
        if not roomy:
            return disc
        places = trace.maps[layer]
        picture = share_picture(places[step - 1].numpy(), float(places.max()))
        return disc + f'<img alt="" src="{picture}">'

    told = ", ".join(f"{rate:.3f}" for rate in rates[:upto])
    name = f"{layer}: {told} spikes a neuron at each step"
    return (
        f'<button type="button" class="mz-lif" data-layer="{escape(layer)}" data-side="{prefix}" '
        f'title="{escape(name)}" aria-label="{escape(name)}; look inside">'
        f"{frames(lit, upto, 'span', upto)}</button>"
    )


def _wires(layers: list[str]) -> str:
    """The drawing behind a block's two buttons; the last neurons have only the stream's end."""
    if len(layers) == 1:
        body = f'<path class="mz-stream" d="M0 {STREAM_Y}H22Q30 {STREAM_Y} 30 {BRANCH_Y}"/>'
        return f'<svg viewBox="0 0 60 {TILE_HEIGHT}" aria-hidden="true">{body}</svg>'
    conv = "".join(
        f'<rect class="mz-conv" x="{x}" y="{BRANCH_Y - 9}" width="10" height="18" rx="2"/>'
        for x in (52, 112)
    )
    plus = TILE - 8
    return (
        f'<svg viewBox="0 0 {TILE} {TILE_HEIGHT}" aria-hidden="true">'
        f'<path class="mz-stream" d="M0 {STREAM_Y}H{TILE}"/>'
        f'<path class="mz-branch" d="M2 {STREAM_Y}Q8 {STREAM_Y} 10 {BRANCH_Y - 8}T24 {BRANCH_Y}'
        f'H114Q{plus} {BRANCH_Y} {plus} {STREAM_Y + 6}"/>{conv}'
        f'<circle class="mz-plus" cx="{plus}" cy="{STREAM_Y}" r="6"/>'
        f'<path class="mz-stroke" d="M{plus - 3} {STREAM_Y}h6M{plus} {STREAM_Y - 3}v6"/></svg>'
    )
