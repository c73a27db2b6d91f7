"""Colours, pictures of bits, and short numbers."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from msr_zoo.watch import marks


def pixels(uri: str) -> np.ndarray:
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(start)))).convert("RGBA")
    )


@pytest.mark.parametrize("scale", [marks.LIGHT, marks.DARK])
def test_a_scale_is_told_apart_by_lightness_alone(scale):
    lightness = [float(re.match(r"oklch\((\S+)", colour)[1]) for colour in scale]
    steps = np.diff(lightness)
    assert len(scale) == marks.LEVELS
    assert np.all(steps > 0) or np.all(steps < 0)
    assert np.abs(steps).min() > 0.9 * np.abs(steps).max() > 0.03


def srgb(oklch: str) -> np.ndarray:
    """Linear light of a colour, as its definition says (Ottosson, 2020), cut to the gamut."""
    lightness, chroma, hue = (float(n) for n in re.findall(r"[\d.]+", oklch))
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    to_lms = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return (to_rgb @ (to_lms @ [lightness, a, b]) ** 3).clip(0, 1)


def test_numbers_in_coloured_cells_can_be_read():
    css = marks.stylesheet()
    for scale, block in zip((marks.LIGHT, marks.DARK), css.split("\n")[:2], strict=True):
        for index, colour in enumerate(scale):
            ink = re.search(rf"--on{index}:(#\w+)", block)[1]
            on = {"#fff": 1.0, "#000": 0.0}[ink]
            luminance = float(srgb(colour) @ [0.2126, 0.7152, 0.0722])
            high, low = max(on, luminance), min(on, luminance)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (index, colour)  # WCAG AA


def test_levels_grow_with_the_rate_and_any_spike_shows():
    rates = np.linspace(0, 1, 200)
    levels = [marks.level(rate) for rate in rates]
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert marks.level(1e-9) == 1
    assert levels[-1] == marks.level(marks.RATE_TOP) == marks.LEVELS - 1


def test_bits_become_pixels():
    bits = np.random.default_rng(0).random((7, 13)) < 0.3
    seen = pixels(marks.bit_picture(bits))
    assert np.array_equal(seen[..., 3] == 255, bits)
    assert np.array_equal(seen[..., 3] == 0, ~bits)
    assert {tuple(p) for p in seen[bits][:, :3]} == {marks.SPIKE}


@pytest.mark.parametrize("fill", [False, True])
def test_bits_that_are_all_alike(fill):
    seen = pixels(marks.bit_picture(np.full((3, 3), fill)))
    assert np.all(seen[..., 3] == 255 * fill)


def test_shares_become_opacity():
    seen = pixels(marks.share_picture(np.array([[0.0, 0.1], [0.2, 0.9]], np.float32), 0.2))
    assert seen[..., 3].tolist() == [[0, 127], [255, 255]]


def test_frames_show_one_step():
    html = marks.frames(str, 3, "b")
    assert html == '<b data-t="1" hidden>1</b><b data-t="2" hidden>2</b><b data-t="3">3</b>'


def test_short_numbers():
    assert [marks.number(n) for n in (0.5, 950, 30_963, 999_700, 1_491_584, 2e9)] == [
        "0.5",
        "950",
        "31 k",
        "1 M",
        "1.49 M",
        "2 G",
    ]
    assert [marks.percent(p) for p in (0.001, 0.0994, 0.44, 1)] == [
        "0.1 %",
        "9.9 %",
        "44 %",
        "100 %",
    ]
