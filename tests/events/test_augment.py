"""Augmentations: what each leaves as it is, and that a seed repeats it."""

from dataclasses import replace

import numpy as np
import pytest

from msr_zoo.events import Augmentation, event_mix
from msr_zoo.events import augment as a

from .writers import random_events

EVENTS = random_events(4000, width=128, height=96)
CALLS = {
    "shift": lambda e, r: a.shift(e, r, pixels=9),
    "flip": a.flip,
    "rotate": lambda e, r: a.rotate(e, r, degrees=20, scale=0.2, shear=0.2, spread=1),
    "drop_time": lambda e, r: a.drop_time(e, r, fraction=0.5),
    "drop_area": lambda e, r: a.drop_area(e, r, fraction=0.5),
    "drop_polarity": lambda e, r: a.drop_polarity(e, r, fraction=0.5),
    "thin": lambda e, r: a.thin(e, r, fraction=0.5),
    "reverse": a.reverse,
    "swap_polarity": a.swap_polarity,
    "jitter_time": lambda e, r: a.jitter_time(e, r, sigma_us=500),
    "event_mix": lambda e, r: event_mix(e, random_events(3000, width=128, height=96, seed=1), r)[0],
    "all": Augmentation(
        shift=5, flip=True, rotate=10, scale=0.1, shear=0.1, drop_time=0.2, drop_area=0.2,
        drop_polarity=0.2, thin=0.2, reverse=True, swap_polarity=True, jitter_us=100,
    ),
}  # fmt: skip


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", CALLS)
def test_order_sensor_and_seed_are_kept(name):
    before = EVENTS.x.copy()
    out, again = CALLS[name](EVENTS, rng(3)), CALLS[name](EVENTS, rng(3))
    assert (np.diff(out.t) >= 0).all()
    assert 0 <= out.x.min() <= out.x.max() < out.width == 128
    assert 0 <= out.y.min() <= out.y.max() < out.height == 96
    assert (out.x.dtype, out.y.dtype, out.t.dtype, out.polarity.dtype) == (
        *(np.int16, np.int16, np.int64, np.bool_),
    )
    np.testing.assert_array_equal(out.x, again.x)
    np.testing.assert_array_equal(out.t, again.t)
    np.testing.assert_array_equal(EVENTS.x, before)


@pytest.mark.parametrize("name", CALLS)
def test_no_events_stay_no_events(name):
    if name != "event_mix":
        assert len(CALLS[name](EVENTS[:0], rng())) == 0


def test_shift_moves_all_by_one_vector():
    for seed in range(5):
        out = a.shift(EVENTS, rng(seed), pixels=9)
        dx, dy = np.random.default_rng(seed).integers(-9, 9, 2, endpoint=True)
        inside = [
            (x + dx, y + dy)
            for x, y in zip(EVENTS.x.tolist(), EVENTS.y.tolist(), strict=True)
            if 0 <= x + dx < 128 and 0 <= y + dy < 96
        ]
        assert list(zip(out.x.tolist(), out.y.tolist(), strict=True)) == inside


def test_flip_mirrors_in_half_of_the_calls():
    out = [a.flip(EVENTS, rng(seed)).x for seed in range(200)]
    mirrored = [np.array_equal(x, 127 - EVENTS.x) for x in out]
    assert all(m or np.array_equal(x, EVENTS.x) for m, x in zip(mirrored, out, strict=True))
    assert 70 < sum(mirrored) < 130


class Highest:
    """The highest of every range, and the place of an event in its pixel drawn."""

    def uniform(self, low, high):
        return high

    def random(self, size):
        return rng().random(size)


def test_a_right_angle_turns_the_axes():
    square = random_events(500, width=65, height=65)
    out = a.rotate(square, Highest(), degrees=90)
    np.testing.assert_array_equal(out.x, 64 - square.y)
    np.testing.assert_array_equal(out.y, square.x)


def test_spread_fills_the_gaps_of_zooming_in_and_shear_moves_rows():
    grid = np.indices((65, 65)).reshape(2, -1)
    events = random_events(60 * 65 * 65, width=65, height=65)
    y, x = np.repeat(grid, 60, axis=1).astype(np.int16)
    everywhere = replace(events, x=x, y=y)  # 60 events a pixel
    out = a.rotate(everywhere, Highest(), degrees=0, scale=0.5, spread=1)
    counts = np.zeros((65, 65), int)
    np.add.at(counts, (out.y, out.x), 1)
    assert counts.min() > 0  # 60 / 1.5² of them on average
    out = a.rotate(everywhere, Highest(), degrees=0, scale=0.5)
    gaps = np.zeros((65, 65), int)
    np.add.at(gaps, (out.y, out.x), 1)
    assert (gaps == 0).any()
    column = everywhere[everywhere.x == 32]
    out = a.rotate(column, Highest(), degrees=0, shear=0.5, spread=1)
    far = np.abs(out.x - (32 + 0.5 * (out.y - 32.0)))
    assert far.max() < 1.3  # half a pixel, half of a half, and the rounding
    assert out.x.max() > 45


def test_drops_leave_out_what_they_say():
    for seed in range(10):
        kept = a.drop_time(EVENTS, rng(seed), fraction=0.5).t
        gap = np.diff(kept, prepend=EVENTS.t[0], append=EVENTS.t[-1]).max()
        gone = len(EVENTS) - len(kept)
        assert gone / len(EVENTS) == pytest.approx(gap / EVENTS.duration, abs=0.03)
        assert len(a.drop_area(EVENTS, rng(seed), fraction=0.5)) >= 0.7 * len(EVENTS)
        out = a.drop_polarity(EVENTS, rng(seed), fraction=0.5)
        lost = [int((EVENTS.polarity == p).sum() - (out.polarity == p).sum()) for p in (0, 1)]
        assert min(lost) == 0
        assert max(lost) <= 0.55 * len(EVENTS) / 2


def test_jitter_keeps_the_span_and_moves_stamps_by_sigma():
    out = a.jitter_time(EVENTS, rng(), sigma_us=1000)
    assert (out.t[0], out.t[-1]) >= (EVENTS.t[0], EVENTS.t[0])
    assert out.t[-1] <= EVENTS.t[-1]
    key = np.lexsort((EVENTS.y, EVENTS.x))
    assert sorted(zip(out.x, out.y, strict=True)) == sorted(zip(EVENTS.x, EVENTS.y, strict=True))
    assert len(key) == len(out)


def test_event_mix_takes_each_event_from_one_side():
    other = random_events(6000, width=128, height=96, seed=1, start_us=9_000_000, span_us=500_000)
    mixed, weight = event_mix(EVENTS, other, rng(4))
    assert 0.1 < weight < 0.9
    own = {*zip(EVENTS.x, EVENTS.y, EVENTS.t, strict=True)}
    mine = sum(event in own for event in zip(mixed.x, mixed.y, mixed.t, strict=True))
    assert mine / len(mixed) == pytest.approx(weight, abs=0.01)
    assert mixed.t[0] >= EVENTS.t[0]
    assert mixed.t[-1] <= EVENTS.t[-1]
    assert len(mixed) == pytest.approx((len(EVENTS) + len(other)) / 2, rel=0.15)
    with pytest.raises(ValueError, match="one size"):
        event_mix(EVENTS, random_events(10, width=64, height=64), rng())
    assert event_mix(EVENTS, other[:0], rng())[1] == 1.0
    assert event_mix(EVENTS[:0], other, rng())[1] == 0.0


def test_backwards_is_a_film_played_backwards():
    seen = set()
    for seed in range(8):
        out = a.reverse(EVENTS, rng(seed))
        if np.array_equal(out.t, EVENTS.t):
            seen.add("forwards")
            np.testing.assert_array_equal(out.polarity, EVENTS.polarity)
            continue
        seen.add("backwards")
        begin, end = EVENTS.t[0], EVENTS.t[-1]
        before = {*zip(EVENTS.x, EVENTS.y, EVENTS.t, EVENTS.polarity, strict=True)}
        assert {
            (x, y, begin + end - t, not p)
            for x, y, t, p in zip(out.x, out.y, out.t, out.polarity, strict=True)
        } == before
    assert seen == {"forwards", "backwards"}


def test_swapping_polarity_leaves_places_and_times():
    outs = [a.swap_polarity(EVENTS, rng(seed)) for seed in range(8)]
    assert {bool(out.polarity[0] == EVENTS.polarity[0]) for out in outs} == {True, False}
    for out in outs:
        np.testing.assert_array_equal(out.x, EVENTS.x)
        assert len({*(out.polarity ^ EVENTS.polarity)}) == 1


def test_thinning_takes_up_to_the_fraction_everywhere():
    shares = [len(a.thin(EVENTS, rng(seed), fraction=0.5)) / len(EVENTS) for seed in range(40)]
    assert 0.48 < min(shares) < 0.56
    assert 0.94 < max(shares) <= 1.0
    assert np.mean(shares) == pytest.approx(0.75, abs=0.06)
