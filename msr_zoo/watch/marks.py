"""The alphabet of the page: frames of an animation, levels of colour, pictures of bits."""

import base64
import io
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEVELS = 16
UNIT = "spikes a neuron a step"
RATE_TOP = 0.6  # spikes a neuron a step at which the scale ends; networks rarely reach it
WHITE_BELOW = 0.565  # lightness of a colour on which white is read better than black
SPIKE = (226, 112, 18)  # of spike maps: seen on white and on black alike


def _scale(low: float, high: float, tint: tuple[float, float]) -> tuple[str, ...]:
    """Colours whose lightness is linear in the level, so that no hue needs to be told apart."""
    colours = []
    for index in range(LEVELS):
        part = index / (LEVELS - 1)
        lightness = low + (high - low) * part
        chroma = 0.005 + 0.15 * (1 - abs(2 * lightness - 1.26)) * min(1.0, 3 * part)
        hue = tint[0] + (tint[1] - tint[0]) * part
        colours.append(f"oklch({lightness:.3f} {max(chroma, 0.005):.3f} {hue:.0f})")
    return tuple(colours)


# More spikes stand out from the page: darker on white, brighter on black.
LIGHT = _scale(0.955, 0.34, (85, 35))
DARK = _scale(0.29, 0.95, (45, 95))


def stylesheet() -> str:
    """The levels as CSS variables, and their classes: `l3` is the colour of level 3."""
    rules = []
    for selector, scale in ((":root", LIGHT), (".dark", DARK)):
        # The ink that stands out from a colour at 4.5 to 1 or more.
        inks = ["#fff" if float(c[6:11]) < WHITE_BELOW else "#000" for c in scale]
        pairs = [
            f"--l{index}:{colour};--on{index}:{on}"
            for index, (colour, on) in enumerate(zip(scale, inks, strict=True))
        ]
        rules.append(f"{selector}{{{';'.join(pairs)}}}")
    rules += [
        f".mz .l{index}{{fill:var(--l{index});background:var(--l{index});color:var(--on{index})}}"
        for index in range(LEVELS)
    ]
    return "\n".join(rules)


def level(rate: float) -> int:
    """The level of a firing rate, from 0 to LEVELS - 1; any spike at all is above 0."""
    if rate <= 0:
        return 0
    return max(1, min(LEVELS - 1, round((LEVELS - 1) * rate / RATE_TOP)))


def frames(draw: Callable[[int], str], upto: int, tag: str = "g") -> str:
    """What `draw` gives for each step up to the last one, which alone is not hidden."""
    return "".join(
        f'<{tag} data-t="{step}"{"" if step == upto else " hidden"}>{draw(step)}</{tag}>'
        for step in range(1, upto + 1)
    )


def legend() -> str:
    """The scale of firing rates, with its ends and its unit."""
    swatches = "".join(f'<i class="l{index}"></i>' for index in range(LEVELS))
    text = f"Colour scale from 0 to {RATE_TOP:g} {UNIT}"
    return (
        f'<div class="mz-legend" role="img" aria-label="{text}"><span>0</span>'
        f'<span class="mz-swatches">{swatches}</span><span>≥ {RATE_TOP:g} {UNIT}</span></div>'
    )


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A PNG of (H, W, 4) or (H, W, 3) pixels, in the address itself."""
    return _encoded(Image.fromarray(pixels))


def bit_picture(bits: NDArray[np.bool_]) -> str:
    """A PNG of one bit a pixel: True in the colour of spikes, False clear."""
    image = Image.fromarray(bits.astype(np.uint8)).convert("P")
    image.putpalette((0, 0, 0, *SPIKE))
    return _encoded(image, bits=1, transparency=0)


def share_picture(shares: NDArray[np.float32], top: float) -> str:
    """A PNG of shares (H, W) in the colour of spikes, the more opaque the nearer to `top`."""
    pixels = np.empty((*shares.shape, 4), np.uint8)
    pixels[..., :3] = SPIKE
    pixels[..., 3] = np.clip(shares / max(top, 1e-6), 0, 1) * 255
    return data_uri(pixels)


def _encoded(image: Image.Image, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def percent(part: float) -> str:
    """A share of one, short: "44 %", "0.3 %"."""
    value = 100 * part
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %"


def number(value: float) -> str:
    """A count, short: "950", "31 k", "1.49 M"."""
    value = float(f"{value:.3g}")  # 999,700 is a million
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def path(points: Iterable[tuple[float, float]]) -> str:
    """Points as the `d` of an SVG path."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
