"""A recording as a film: its events, gathered into pictures that a player shows in turn."""

from msr_zoo.events import Events, to_frames
from msr_zoo.watch.marks import data_uri, escape, number
from msr_zoo.watch.seen import coloured

PICTURES = 48
SIDE = 128


def film(events: Events, begin_us: int, length_us: int, name: str) -> str:
    """A player of the whole recording; pictures inside the window that is shown are marked."""
    duration = events.duration + 1
    height, width = _size(events)
    count = min(PICTURES, max(1, duration // 1000))
    counts = to_frames(events, steps=count, size=(height, width))
    pictures = []
    for index, picture in enumerate(counts):
        pixels = coloured(picture)
        start = index * duration // count
        inside = begin_us < (index + 1) * duration // count and start < begin_us + length_us
        pictures.append(
            f'<g data-t="{index + 1}"{"" if index == 0 else " hidden"}>'
            f'<image width="{width}" height="{height}" href="{data_uri(pixels)}">'
            f"<title>{int(picture.sum()):,} events from {start / 1000:.0f} ms"
            f"</title></image></g>"
            + (
                f'<rect class="mz-in" data-t="{index + 1}" width="{width}" height="{height}"'
                f"{'' if index == 0 else ' hidden'}/>"
                if inside
                else ""
            )
        )
    told = (
        f"{number(len(events))} events in {duration / 1000:,.0f} ms, sensor {events.width} × "
        f"{events.height}; the network sees {begin_us / 1000:.0f} to "
        f"{(begin_us + length_us) / 1000:.0f} ms"
    )
    return (
        f'<div class="mz mz-film" data-player="film" data-steps="{count}">'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Events of {escape(name)}: '
        f'{told}">{"".join(pictures)}</svg>'
        f'<div class="mz-player">{controls(count, 1, "picture")}</div>'
        f'<p class="mz-note"><i class="mz-on"></i> brighter <i class="mz-off"></i> darker. '
        f"{told}.</p></div>"
    )


def _size(events: Events) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(events.width, events.height))
    return max(1, round(events.height * scale)), max(1, round(events.width * scale))


def controls(steps: int, shown: int, noun: str) -> str:
    """Play, a step back, a step on, and a slider: what app/player.js listens to."""
    return (
        '<button type="button" data-do="play" aria-pressed="false">Play</button>'
        f'<button type="button" data-do="back" aria-label="{noun.capitalize()} back">◀</button>'
        f'<button type="button" data-do="on" aria-label="{noun.capitalize()} on">▶</button>'
        f'<input type="range" min="1" max="{steps}" value="{shown}" step="1" '
        f'aria-label="{noun.capitalize()} shown">'
        f"<output>{noun} {shown} of {steps}</output>"
    )
