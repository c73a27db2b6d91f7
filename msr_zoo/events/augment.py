"""Augmentations of events. Each takes a NumPy generator, so that a seed repeats it.

All keep the time order and the sensor; events that leave the sensor are gone. Dropping follows
Gu et al., *EventDrop* (IJCAI 2021), mixing Shen et al., *EventMix* (Information Sciences 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .stream import Events


def _moved(events: Events, x: NDArray[np.int64], y: NDArray[np.int64]) -> Events:
    """Put events at new pixels."""
    moved = replace(events, x=x.astype(np.int16), y=y.astype(np.int16))
    inside = (x >= 0) & (x < events.width) & (y >= 0) & (y < events.height)
    return moved if inside.all() else moved[inside]


def shift(events: Events, rng: Generator, *, pixels: int) -> Events:
    """Move all events by up to ``pixels`` along each axis."""
    dx, dy = rng.integers(-pixels, pixels, 2, endpoint=True)
    return _moved(events, events.x.astype(np.int64) + dx, events.y.astype(np.int64) + dy)


def flip(events: Events, rng: Generator) -> Events:
    """Mirror left and right, in half of the calls."""
    if rng.random() < 0.5:
        return events
    return replace(events, x=(events.width - 1 - events.x).astype(np.int16))


def rotate(
    events: Events,
    rng: Generator,
    *,
    degrees: float,
    scale: float = 0.0,
    shear: float = 0.0,
    spread: float = 0.0,
) -> Events:
    """Turn by up to ``degrees`` either way about the centre, and zoom by up to 1 ± ``scale``.

    Before that, rows move by up to ``shear`` of their distance from the middle, as in slanted
    writing. Events lie in the middle of their pixels, and zooming in leaves gaps; with a ``spread``
    of 1 they lie anywhere in them, which fills the gaps and blurs lines. That helps where frames
    are larger than the sensor, and costs where they are smaller.
    """
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    zoom = 1.0 + rng.uniform(-scale, scale)
    slant = rng.uniform(-shear, shear)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    x0, y0 = (events.width - 1) / 2, (events.height - 1) / 2
    x, y = events.x - x0, events.y - y0
    if spread:
        y = y + spread * (rng.random(len(events)) - 0.5)
        x = x + spread * (rng.random(len(events)) - 0.5)
    x = x + slant * y
    new_x, new_y = cos * x - sin * y + x0, sin * x + cos * y + y0
    return _moved(events, np.rint(new_x).astype(np.int64), np.rint(new_y).astype(np.int64))


def drop_time(events: Events, rng: Generator, *, fraction: float) -> Events:
    """Leave out one stretch of time, up to ``fraction`` of the whole."""
    if not len(events):
        return events
    length = int(events.duration * rng.uniform(0.0, fraction))
    begin = int(events.t[0]) + int(rng.integers(0, events.duration - length, endpoint=True))
    first, last = np.searchsorted(events.t, (begin, begin + length))
    keep = np.ones(len(events), np.bool_)
    keep[first:last] = False
    return events[keep]


def drop_area(events: Events, rng: Generator, *, fraction: float) -> Events:
    """Leave out one rectangle with sides up to ``fraction`` of the sensor's."""
    width, height = (
        int(side * rng.uniform(0.0, fraction)) for side in (events.width, events.height)
    )
    left = int(rng.integers(0, events.width - width, endpoint=True))
    top = int(rng.integers(0, events.height - height, endpoint=True))
    inside = (events.x >= left) & (events.x < left + width)
    inside &= (events.y >= top) & (events.y < top + height)
    return events[~inside]


def drop_polarity(events: Events, rng: Generator, *, fraction: float) -> Events:
    """Leave out up to ``fraction`` of the events of one polarity, each with equal chance."""
    share, brighter = rng.uniform(0.0, fraction), rng.random() < 0.5
    return events[(events.polarity != brighter) | (rng.random(len(events)) >= share)]


def thin(events: Events, rng: Generator, *, fraction: float) -> Events:
    """Leave out up to ``fraction`` of all events, each with equal chance."""
    return events[rng.random(len(events)) >= rng.uniform(0.0, fraction)]


def reverse(events: Events, rng: Generator) -> Events:
    """Play backwards, in half of the calls, with brighter and darker swapped as that does."""
    if not len(events) or rng.random() < 0.5:
        return events
    backwards = events[np.arange(len(events))[::-1]]
    t = events.t[0] + events.t[-1] - backwards.t
    return replace(backwards, t=t, polarity=~backwards.polarity)


def swap_polarity(events: Events, rng: Generator) -> Events:
    """Swap brighter and darker, as light and dark things do, in half of the calls."""
    return events if rng.random() < 0.5 else replace(events, polarity=~events.polarity)


def jitter_time(events: Events, rng: Generator, *, sigma_us: float) -> Events:
    """Move every stamp by a normal deviate of ``sigma_us``, within the span of all stamps."""
    if not len(events):
        return events
    t = events.t + np.rint(rng.normal(0.0, sigma_us, len(events))).astype(np.int64)
    t = np.clip(t, events.t[0], events.t[-1])
    order = np.argsort(t, kind="stable")
    return replace(events[order], t=t[order])


def event_mix(a: Events, b: Events, rng: Generator, *, components: int = 3) -> tuple[Events, float]:
    """Take a's events inside a random blob of space and time and b's outside it.

    The blob is where a mixture of ``components`` Gaussians in (x, y, t) exceeds its median over
    both. Times are a's, b's are stretched to its span. Returns the mixture and the share of a's
    events in it, the weight of a's label. Raises ValueError where the sensors differ in size.
    """
    if (a.width, a.height) != (b.width, b.height):
        raise ValueError("only recordings of sensors of one size mix")
    if not len(a) or not len(b):
        return (a, 1.0) if len(a) else (b, 0.0)
    centre, width = rng.random((components, 3)), rng.uniform(0.1, 0.5, (components, 3))
    stretch = max(a.duration, 1) / max(b.duration, 1)
    b_time = a.t[0] + np.rint((b.t - b.t[0]) * stretch).astype(np.int64)

    def density(events: Events, t: NDArray[np.int64]) -> NDArray[np.float32]:
        position = np.stack(
            [events.x / a.width, events.y / a.height, (t - a.t[0]) / max(a.duration, 1)], axis=1
        ).astype(np.float32)
        total = np.zeros(len(events), np.float32)
        for mean, deviation in zip(centre, width, strict=True):
            offset = (position - mean.astype(np.float32)) / deviation.astype(np.float32)
            total += np.exp(-0.5 * np.einsum("nd,nd->n", offset, offset))
        return total

    in_a, in_b = density(a, a.t), density(b, b_time)
    level = np.median(np.concatenate([in_a, in_b]))
    mine, theirs = in_a > level, in_b <= level
    t = np.concatenate([a.t[mine], b_time[theirs]])
    order = np.argsort(t, kind="stable")
    mixed = replace(
        a,
        x=np.concatenate([a.x[mine], b.x[theirs]])[order],
        y=np.concatenate([a.y[mine], b.y[theirs]])[order],
        t=t[order],
        polarity=np.concatenate([a.polarity[mine], b.polarity[theirs]])[order],
    )
    return mixed, float(mine.sum() / max(len(mixed), 1))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The augmentations of one sample, with their strengths; the defaults do nothing.

    Call it with events and a generator. ``shift`` is in pixels, ``rotate`` in degrees,
    ``jitter_us`` in µs, all others are fractions as the functions of this module take them.
    """

    shift: int = 0
    flip: bool = False
    reverse: bool = False
    swap_polarity: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    spread: float = 0.0
    drop_time: float = 0.0
    drop_area: float = 0.0
    drop_polarity: float = 0.0
    thin: float = 0.0
    jitter_us: float = 0.0

    def __call__(self, events: Events, rng: Generator) -> Events:
        if self.flip:
            events = flip(events, rng)
        if self.reverse:
            events = reverse(events, rng)
        if self.swap_polarity:
            events = swap_polarity(events, rng)
        if self.rotate or self.scale or self.shear:
            events = rotate(
                events,
                rng,
                degrees=self.rotate,
                scale=self.scale,
                shear=self.shear,
                spread=self.spread,
            )
        if self.shift:
            events = shift(events, rng, pixels=self.shift)
        if self.drop_time:
            events = drop_time(events, rng, fraction=self.drop_time)
        if self.drop_area:
            events = drop_area(events, rng, fraction=self.drop_area)
        if self.drop_polarity:
            events = drop_polarity(events, rng, fraction=self.drop_polarity)
        if self.thin:
            events = thin(events, rng, fraction=self.thin)
        if self.jitter_us:
            events = jitter_time(events, rng, sigma_us=self.jitter_us)
        return events
