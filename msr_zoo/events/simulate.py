"""A simulated event camera: pictures that move before it become events, or frames of counts.

A pixel compares the logarithm of its light with the level that it remembers, and each time the
difference reaches a threshold it sends an event and moves that level by the threshold
(Lichtsteiner, Posch and Delbruck, JSSC 2008). Between two instants the logarithm is taken to
change linearly, which gives every event its own time (Rebecq, Gehrig and Scaramuzza, *ESIM*,
CoRL 2018). Mismatch, leak and shot noise follow Hu, Liu and Delbruck, *v2e* (CVPR workshops 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .stream import Events

SMALLEST_THRESHOLD = 0.01  # of a pixel, however far its mismatch takes it (v2e)
BRIGHT_SHOT = 0.25  # shot noise of a white pixel, as a share of a black one's (v2e)
CHUNK = 16  # pictures whose temporaries stay in a core's cache


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What a simulated camera is like.

    Thresholds are steps of the natural logarithm of intensity, ``mismatch`` the standard deviation
    of each pixel's about them. ``dark`` is added to the intensity, whose full scale is 1, before
    the logarithm. A pixel in peace sends ``leak_hz`` events of brightening, and ``shot_hz`` of
    both polarities where it is dark, a quarter of that where it is bright. For ``refractory_us``
    after an event a pixel sends no other. Raises ValueError where a number is out of range.
    """

    on_threshold: float = 0.2
    off_threshold: float = 0.2
    mismatch: float = 0.03
    dark: float = 0.02
    leak_hz: float = 0.1
    shot_hz: float = 1.0
    refractory_us: float = 0.0

    def __post_init__(self) -> None:
        for name in ("on_threshold", "off_threshold", "dark"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("mismatch", "leak_hz", "shot_hz", "refractory_us"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


class _Pixels:
    """The pixels of a sensor before each of B pictures: their thresholds, levels and last events.

    They have looked at the first picture for a while: what is left until the next event of either
    polarity is uniformly distributed.
    """

    def __init__(self, light: Tensor, sensor: Sensor, generator: Generator | None) -> None:
        self.sensor, self.generator = sensor, generator

        def thresholds(nominal: float) -> Tensor:
            spread = torch.randn(light.shape[1:], generator=generator, dtype=light.dtype)
            return (nominal + sensor.mismatch * spread).clamp_min_(SMALLEST_THRESHOLD)

        self.on, self.off = thresholds(sensor.on_threshold), thresholds(sensor.off_threshold)
        self.signal = (light + sensor.dark).log_()
        phase = torch.rand(light.shape, generator=generator, dtype=light.dtype)
        self.level = self.signal + self.off - phase * (self.on + self.off)
        self.last = torch.full_like(light, -math.inf) if sensor.refractory_us else None

    def advance(self, light: Tensor, end_us: float) -> tuple[Tensor, Tensor]:
        """See the light (B, H, W) at the next instant; count the thresholds crossed until then.

        Returns brighter and darker ones, floats (B, H, W), of which one is 0 everywhere, without
        the refractory period.
        """
        self.signal = (light + self.sensor.dark).log_()
        if self.sensor.leak_hz:
            # The level leaks towards events of brightening, which is as if the light rose.
            self.signal += self.on * (self.sensor.leak_hz * end_us * 1e-6)
        change = self.signal - self.level
        brighter = (change / self.on).floor_().clamp_min_(0)
        darker = change.neg_().div_(self.off).floor_().clamp_min_(0)
        self.level = self.level.addcmul(brighter, self.on).addcmul_(darker, self.off, value=-1)
        return brighter, darker

    def advance_timed(
        self, light: Tensor, begin_us: float, end_us: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Like `advance`, but with times: (brighter, darker, first, gap).

        Events of a pixel follow each other by ``gap`` µs from ``first`` on, where there are any.
        """
        before, level = self.signal, self.level
        brighter, darker = self.advance(light, end_us)
        crossed = brighter + darker
        step = torch.where(brighter > 0, self.on, -self.off)
        # The time of a crossing, in its linear interpolation; its sign is that of the step.
        pace = (end_us - begin_us) / (self.signal - before)
        gap = step * pace
        first = begin_us + (level - before) * pace + gap
        if self.last is not None:
            rest = self.sensor.refractory_us
            skipped = ((self.last + rest - first) / gap).ceil().clamp_min_(0)
            stride = (rest / gap).ceil().clamp_min_(1)
            kept = ((crossed - 1 - skipped) / stride).floor().add_(1).clamp_min_(0)
            kept = torch.where(crossed > 0, kept, 0.0)
            first, gap = first + skipped * gap, gap * stride
            self.last = torch.where(kept > 0, first + gap * (kept - 1), self.last)
            brighter, darker = kept * (brighter > 0), kept * (darker > 0)
        return brighter, darker, first, gap

    def noise(self, light: Tensor, microseconds: float) -> tuple[Tensor, Tensor]:
        """Draw shot noise of a while: places in (2, B, H, W), flat, and shares of that while.

        It comes on top of the picture's events and leaves levels and refractory periods alone.
        """
        mean = self.sensor.shot_hz * microseconds * 1e-6 * light.numel()
        number = int(torch.poisson(torch.tensor(mean), generator=self.generator))
        place = torch.randint(2 * light.numel(), (number,), generator=self.generator)
        chance, share = torch.rand(2, number, generator=self.generator)
        kept = chance < 1 - (1 - BRIGHT_SHOT) * light.flatten()[place % light.numel()]
        return place[kept], share[kept]


def _views(pictures: Tensor, maps: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Show pictures (B, h, w) under maps (B, K + 1, 2, 3): K + 1 times light (B, H, W).

    Beyond the edge of a picture its outermost pixels go on.
    """
    height, width = size
    # Centres of the sensor's pixels. affine_grid would cost as much as the sampling itself.
    x = (2 * torch.arange(width, dtype=maps.dtype) + 1) / width - 1
    y = (2 * torch.arange(height, dtype=maps.dtype) + 1) / height - 1
    grid = maps.new_empty(len(pictures), height, width, 2)
    for instant in maps.unbind(1):
        for axis in range(2):
            by_x, by_y, shift = instant[:, axis, :, None].unbind(1)  # (B, 1) each
            torch.add((by_x * x)[:, None], (by_y * y + shift)[..., None], out=grid[..., axis])
        moved = F.grid_sample(pictures[:, None], grid, padding_mode="border", align_corners=False)
        yield moved[:, 0]


def simulate(
    picture: Tensor,
    maps: Tensor,
    *,
    duration_us: int,
    size: tuple[int, int],
    sensor: Sensor | None = None,
    seed: int = 0,
) -> Events:
    """Record a picture (h, w) of intensities from 0 to 1 that moves before a sensor of (H, W).

    ``maps`` (K + 1, 2, 3), from `motion.poses`, hold at K + 1 instants, equally far apart from 0 to
    ``duration_us``. Raises ValueError for other shapes, or pixels that are no intensities.
    """
    maps = maps[None] if maps.dim() == 3 else maps
    picture = picture[None] if picture.dim() == 2 else picture
    _check(picture, maps, duration_us, size)
    if len(picture) != 1:
        raise ValueError(f"simulate records one picture at a time, got {len(picture)}")
    views = _views(picture.double(), maps.double(), size)
    light = next(views)
    pixels = _Pixels(light, sensor or Sensor(), torch.Generator().manual_seed(seed))
    places, stamps = [torch.empty(0, dtype=torch.long)], [torch.empty(0, dtype=torch.long)]
    instants = maps.shape[1] - 1
    for k, light in enumerate(views):
        begin, end = k * duration_us / instants, (k + 1) * duration_us / instants
        brighter, darker, first, gap = pixels.advance_timed(light, begin, end)
        for polarity, count in enumerate((darker, brighter)):
            at = count.flatten().nonzero()[:, 0]
            number = count.flatten()[at].long()
            earlier = (number.cumsum(0) - number).repeat_interleave(number)
            nth = torch.arange(len(earlier)) - earlier
            time = (first.flatten()[at], gap.flatten()[at])
            exact = time[0].repeat_interleave(number) + nth * time[1].repeat_interleave(number)
            places.append(at.repeat_interleave(number) + polarity * light.numel())
            # The µs in which it falls, the last of this while at the latest.
            stamps.append(exact.clamp(begin, end).ceil().long() - 1)
        place, share = pixels.noise(light, end - begin)
        places.append(place)
        stamps.append((begin + share.double() * (end - begin)).floor().long())
    t, order = torch.cat(stamps).clamp_min(0).sort(stable=True)
    events = torch.cat(places)[order].numpy()  # as places in (2, H, W)
    height, width = size
    pixel = events % (height * width)
    return Events(
        x=(pixel % width).astype(np.int16),
        y=(pixel // width).astype(np.int16),
        t=t.numpy(),
        polarity=events >= height * width,
        width=width,
        height=height,
    )


def simulate_frames(
    pictures: Tensor,
    maps: Tensor,
    *,
    duration_us: int,
    size: tuple[int, int],
    steps: int,
    sensor: Sensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Count the events of each of B moving pictures (B, h, w) into frames (B, T, 2, H, W).

    The same as `simulate` and then `to_frames`, without ever making an event. ``maps``
    (B, K + 1, 2, 3), where T divides K. All pictures are seen by one sensor, with the mismatch of
    its pixels. Raises ValueError as `simulate` does.
    """
    _check(pictures, maps, duration_us, size)
    instants = maps.shape[1] - 1
    if steps < 1 or instants % steps:
        raise ValueError(f"steps must divide the {instants} intervals of the maps, got {steps}")
    sensor = sensor or Sensor()
    frames = pictures.new_zeros(2, len(pictures), steps, *size)
    height, width = size
    views = _views(pictures, maps, size)
    light = next(views)
    pixels = _Pixels(light, sensor, generator)
    for k, light in enumerate(views):
        begin, end = k * duration_us / instants, (k + 1) * duration_us / instants
        if sensor.refractory_us:
            brighter, darker, _, _ = pixels.advance_timed(light, begin, end)
        else:
            brighter, darker = pixels.advance(light, end)
        step = k * steps // instants
        frames[1, :, step] += brighter
        frames[0, :, step] += darker
        if sensor.shot_hz:
            place, _ = pixels.noise(light, end - begin)
            picture, pixel = place // (height * width), place % (height * width)
            frames.view(-1, steps, height * width).index_put_(
                (picture, torch.full_like(picture, step), pixel),
                frames.new_ones(len(place)),
                accumulate=True,
            )
    return frames.permute(1, 2, 0, 3, 4)


def _check(pictures: Tensor, maps: Tensor, duration_us: int, size: tuple[int, int]) -> None:
    if pictures.dim() != 3 or maps.shape[:1] + maps.shape[2:] != (len(pictures), 2, 3):
        raise ValueError(
            "pictures must be (B, h, w) and maps (B, K + 1, 2, 3), "
            f"got {tuple(pictures.shape)} and {tuple(maps.shape)}"
        )
    if maps.shape[1] < 2 or duration_us < 1 or min(size) < 1:
        raise ValueError(
            "a simulation needs two instants, a microsecond and a pixel at least, "
            f"got {maps.shape[1]}, {duration_us} and {size}"
        )
    # A comparison that NaN fails too.
    if not bool(((pictures >= 0) & (pictures <= 1)).all()):
        raise ValueError("intensities must lie from 0 to 1")
