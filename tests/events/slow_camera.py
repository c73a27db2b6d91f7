"""The simulated camera written a second time: a pixel after the other, an event after the other."""

import math

import torch

US = 1e-6


def bilinear(picture, row, column):
    """A picture at a point, whose outermost pixels go on beyond its edge."""
    height, width = len(picture), len(picture[0])
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    down, right = row - top, column - left
    above = picture[top][left] * (1 - right) + picture[top][left + 1] * right
    below = picture[top + 1][left] * (1 - right) + picture[top + 1][left + 1] * right
    return above * (1 - down) + below * down


def light_of(picture, offset, row, column, size):
    """What a sensor's pixel sees of a picture that covers the sensor, moved by (x, y) pixels."""
    high, wide = len(picture) / size[0], len(picture[0]) / size[1]
    at = ((row + 0.5 - offset[1]) * high - 0.5, (column + 0.5 - offset[0]) * wide - 0.5)
    return bilinear(picture, *at)


def draws(sensor, batch, size, generator):
    """What the camera draws first: thresholds for brighter, for darker, and initial levels."""
    spread = [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2)]
    phase = torch.rand((batch, *size), generator=generator, dtype=torch.float64)
    on, off = (
        (nominal + sensor.mismatch * one).clamp(min=0.01).tolist()
        for nominal, one in zip((sensor.on_threshold, sensor.off_threshold), spread, strict=True)
    )
    return on, off, phase.tolist()


def record(picture, offsets, duration, size, sensor, on, off, phase):
    """Events (x, y, exact time, polarity) of one picture, without shot noise."""
    out = []
    span = duration / (len(offsets) - 1)
    for row in range(size[0]):
        for column in range(size[1]):
            up, down = on[row][column], off[row][column]
            seen = [light_of(picture, offset, row, column, size) for offset in offsets]
            signal = [
                math.log(light + sensor.dark) + up * sensor.leak_hz * US * span * k
                for k, light in enumerate(seen)
            ]
            level = signal[0] + down - phase[row][column] * (up + down)
            last = -math.inf
            for k in range(len(signal) - 1):
                before, after = signal[k], signal[k + 1]
                while True:
                    if after - level >= up:
                        level, polarity = level + up, True
                    elif level - after >= down:
                        level, polarity = level - down, False
                    else:
                        break
                    t = span * (k + (level - before) / (after - before))
                    if t - last >= sensor.refractory_us:
                        out.append((column, row, t, polarity))
                        last = t
    return out
