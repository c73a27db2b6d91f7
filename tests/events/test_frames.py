"""Events to tensors, against a loop over events."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from msr_zoo.events import around_median, normalized, to_frames, without_hot_pixels

from .writers import random_events


def by_loop(events, steps, size, interval):
    height, width = size
    frames = torch.zeros(steps, 2, height, width)
    begin, end = interval
    scale = min(height / events.height, width / events.width, 1)
    left = (width - int(np.ceil(events.width * scale))) // 2
    top = (height - int(np.ceil(events.height * scale))) // 2
    for x, y, t, p in zip(events.x, events.y, events.t, events.polarity, strict=True):
        if begin <= t < end:
            step = int((t - begin) * steps // (end - begin))
            row = min(int((y + 0.5) * scale) + top, height - 1)
            column = min(int((x + 0.5) * scale) + left, width - 1)
            frames[step, int(p), row, column] += 1
    return frames


@pytest.mark.parametrize(
    ("sensor", "size"),
    [
        ((128, 128), (128, 128)),
        ((128, 128), (32, 32)),
        ((346, 260), (64, 48)),
        ((34, 34), (40, 64)),
        ((1280, 720), (128, 128)),
    ],
)
def test_counts_equal_a_loop(sensor, size):
    events = random_events(2000, width=sensor[0], height=sensor[1], start_us=500)
    interval = (int(events.t[100]), int(events.t[1900]))
    frames = to_frames(events, steps=7, size=size, interval=interval)
    assert frames.shape == (7, 2, *size)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, by_loop(events, 7, size, interval))


def test_every_event_of_the_recording_is_counted():
    events = random_events(5000, width=640, height=480)
    assert to_frames(events, steps=10, size=(128, 128)).sum() == 5000
    assert to_frames(events[:0], steps=3, size=(8, 8)).sum() == 0


def test_halving_sums_four_pixels():
    events = random_events(3000, width=64, height=64)
    full = to_frames(events, steps=1, size=(64, 64))
    half = to_frames(events, steps=1, size=(32, 32))
    torch.testing.assert_close(half, 4 * torch.nn.functional.avg_pool2d(full, 2))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"size": (0, 4)}, {"interval": (5, 5)}])
def test_impossible_frames_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        to_frames(random_events(10), **{"steps": 2, "size": (8, 8), **wrong})


def test_normalized_has_mean_one_over_active_cells():
    frames = to_frames(random_events(5000), steps=4, size=(32, 32))
    for scale in (1, 7):
        out = normalized(frames * scale)
        assert out[out > 0].mean().item() == pytest.approx(1)
    assert normalized(torch.zeros(2, 2, 4, 4)).sum() == 0


def test_hot_pixels_go_and_objects_stay():
    events = random_events(20_000, width=64, height=48)
    noise = np.random.default_rng(0).integers(0, len(events), 3000)
    x, y = events.x.copy(), events.y.copy()
    x[noise[:1500]], y[noise[:1500]] = 0, 0  # a corner
    x[noise[1500:]], y[noise[1500:]] = 40, 20
    loud = type(events)(x, y, events.t, events.polarity, 64, 48)
    quiet = without_hot_pixels(loud)
    hot = ((x == 0) & (y == 0)) | ((x == 40) & (y == 20))
    np.testing.assert_array_equal(quiet.t, loud.t[~hot])
    assert without_hot_pixels(events) is events


def test_a_square_is_cut_out_about_the_median_event():
    events = random_events(2001, width=100, height=60)
    out = around_median(events, 20)
    assert (out.width, out.height) == (20, 20)
    x0, y0 = sorted(events.x)[1000] - 10, sorted(events.y)[1000] - 10
    inside = [
        (x - x0, y - y0, t, p)
        for x, y, t, p in zip(events.x, events.y, events.t, events.polarity, strict=True)
        if x0 <= x < x0 + 20 and y0 <= y < y0 + 20
    ]
    assert inside == [*zip(out.x, out.y, out.t, out.polarity, strict=True)]
    assert len(around_median(events[:0], 20)) == 0
    # Where the camera stood does not matter, as long as it saw all.
    near = around_median(random_events(500, width=10, height=10), 64)
    moved = replace(random_events(500, width=10, height=10), width=128, height=128)
    moved = replace(moved, x=moved.x + np.int16(70), y=moved.y + np.int16(3))
    np.testing.assert_array_equal(near.x, around_median(moved, 64).x)
    np.testing.assert_array_equal(near.y, around_median(moved, 64).y)
