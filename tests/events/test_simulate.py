"""The simulated camera, against a loop over pixels and events, and against closed forms."""

import math

import numpy as np
import pytest
import torch

from msr_zoo.events import to_frames
from msr_zoo.events.motion import poses, saccades, square, triangle
from msr_zoo.events.simulate import Sensor, simulate, simulate_frames

from . import slow_camera

SIZE = (7, 9)
DURATION = 90_000
CORNERS = torch.tensor([[0.0, 0.0], [3.5, -1.0], [-2.0, 2.5]], dtype=torch.float64)
SENSORS = [
    Sensor(shot_hz=0.0),
    Sensor(shot_hz=0.0, mismatch=0.0, leak_hz=0.0, on_threshold=0.3, off_threshold=0.15),
    Sensor(shot_hz=0.0, leak_hz=40.0, mismatch=0.1),
    Sensor(shot_hz=0.0, refractory_us=700.0),
    Sensor(shot_hz=0.0, refractory_us=25_000.0, leak_hz=20.0),
]


def pictures(batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 6, 5, generator=generator, dtype=torch.float64)


def slowly(light, offsets, sensor, seed):
    """Events of each picture by the loop."""
    generator = torch.Generator().manual_seed(seed)
    on, off, phases = slow_camera.draws(sensor, len(light), SIZE, generator)
    args = (offsets.tolist(), DURATION, SIZE, sensor, on, off)
    return [
        slow_camera.record(picture.tolist(), *args, phase)
        for picture, phase in zip(light, phases, strict=True)
    ]


@pytest.mark.parametrize("sensor", SENSORS)
def test_events_equal_a_loop(sensor):
    light, offsets = pictures(), saccades(CORNERS, 3)
    expected = slowly(light, offsets, sensor, seed=5)[0]
    assert len(expected) > 300 or sensor.refractory_us > 10_000
    assert {polarity for *_, polarity in expected} == {True, False}
    events = simulate(
        light[0], poses(offsets, SIZE), duration_us=DURATION, size=SIZE, sensor=sensor, seed=5
    )
    assert (events.width, events.height) == SIZE[::-1]
    assert (np.diff(events.t) >= 0).all()
    assert events.t[0] >= 0
    assert events.t[-1] < DURATION
    # A stamp is the µs in which the event falls.
    found = sorted(zip(events.x, events.y, events.polarity, events.t + 0.5, strict=True))
    wanted = sorted((x, y, polarity, t) for x, y, t, polarity in expected)
    assert [event[:3] for event in found] == [event[:3] for event in wanted]
    np.testing.assert_allclose([e[3] for e in found], [e[3] for e in wanted], atol=0.501)


@pytest.mark.parametrize("sensor", SENSORS)
def test_frames_of_a_batch_equal_a_loop(sensor):
    light, offsets, steps = pictures(3), saccades(CORNERS, 3), 2
    frames = simulate_frames(
        light,
        poses(offsets, SIZE).expand(3, -1, -1, -1),
        duration_us=DURATION,
        size=SIZE,
        steps=steps,
        sensor=sensor,
        generator=torch.Generator().manual_seed(7),
    )
    expected = torch.zeros(3, steps, 2, *SIZE, dtype=torch.float64)
    for number, events in enumerate(slowly(light, offsets, sensor, seed=7)):
        for x, y, t, polarity in events:
            expected[number, math.ceil(t * steps / DURATION) - 1, int(polarity), y, x] += 1
    torch.testing.assert_close(frames, expected, rtol=0, atol=0)


@pytest.mark.parametrize("refractory_us", [0.0, 3000.0])
def test_frames_are_those_of_the_events_noise_included(refractory_us):
    sensor = Sensor(shot_hz=60.0, refractory_us=refractory_us)
    light, maps = pictures(), poses(saccades(CORNERS, 4), SIZE)
    events = simulate(light[0], maps, duration_us=DURATION, size=SIZE, sensor=sensor, seed=3)
    frames = simulate_frames(
        light,
        maps[None],
        duration_us=DURATION,
        size=SIZE,
        steps=4,
        sensor=sensor,
        generator=torch.Generator().manual_seed(3),
    )[0]
    binned = to_frames(events, steps=4, size=SIZE, interval=(0, DURATION))
    torch.testing.assert_close(frames.float(), binned)


def still(intensity, sensor, *, size=(40, 50), seconds=1.0, seed=0):
    picture = torch.full((2, 2), intensity)
    maps = poses(torch.zeros(5, 2), size)
    return simulate(
        picture, maps, duration_us=int(seconds * 1e6), size=size, sensor=sensor, seed=seed
    )


def test_what_stands_still_is_silent_but_for_noise():
    assert len(still(0.5, Sensor(shot_hz=0.0, leak_hz=0.0))) == 0


def test_leak_brightens_every_pixel_at_its_rate():
    events = still(0.5, Sensor(shot_hz=0.0, leak_hz=10.0, mismatch=0.05), seconds=2.0)
    assert events.polarity.all()
    one = events[(events.x == 3) & (events.y == 4)]
    np.testing.assert_allclose(np.diff(one.t), 100_000, atol=1)
    # The first comes after up to (on + off) / on = 2 periods; mean 1.
    assert len(events) / (40 * 50) == pytest.approx(19.5, abs=0.1)


@pytest.mark.parametrize(("intensity", "share"), [(0.0, 1.0), (1.0, 0.25), (0.4, 0.7)])
def test_shot_noise_has_the_rate_of_its_light_in_equal_polarities(intensity, share):
    events = still(intensity, Sensor(shot_hz=20.0, leak_hz=0.0), seconds=2.0)
    expected = 20.0 * 2.0 * share * 40 * 50
    assert abs(len(events) - expected) < 4.5 * math.sqrt(expected)
    assert events.polarity.mean() == pytest.approx(0.5, abs=0.02)
    assert np.histogram(events.t, 4, (0, 2e6))[0] == pytest.approx(expected / 4, rel=0.05)


def test_thresholds_spread_by_their_mismatch():
    # All pixels leak one threshold of theirs in the same time, so a ramp of light tells them apart.
    dark, bright = torch.full((2, 2), 0.1), torch.full((2, 2), 1.0)
    sensor = Sensor(on_threshold=0.02, off_threshold=0.02, mismatch=0.004, dark=1e-6, shot_hz=0.0)
    picture = torch.cat([dark, bright], 1).double()
    size = (60, 60)
    offsets = torch.tensor([[-60.0, 0.0], [60.0, 0.0]])  # from the bright side to the dark one
    events = simulate(picture, poses(offsets, size), duration_us=1000, size=size, sensor=sensor)
    counts = np.bincount(events.y.astype(int) * 60 + events.x, minlength=3600)
    threshold = math.log(10) / counts
    assert not events.polarity.any()
    assert threshold.mean() == pytest.approx(0.02, rel=0.03)
    assert threshold.std() == pytest.approx(0.004, rel=0.15)


def test_refractory_pixels_keep_their_pause():
    light = pictures()[0]
    maps = poses(saccades(CORNERS, 8), SIZE)
    sensor = Sensor(refractory_us=4000.0, shot_hz=0.0, on_threshold=0.05, off_threshold=0.05)
    events = simulate(light, maps, duration_us=DURATION, size=SIZE, sensor=sensor)
    pauses = [
        np.diff(events.t[(events.x == x) & (events.y == y)]) for x in range(9) for y in range(7)
    ]
    assert 4000 <= np.concatenate(pauses).min() + 1 < 4100


def test_one_seed_gives_one_recording():
    light, maps = pictures()[0], poses(triangle(4.0, 3), SIZE)
    first, again, other = (
        simulate(light, maps, duration_us=DURATION, size=SIZE, seed=seed) for seed in (1, 1, 2)
    )
    for name in ("x", "y", "t", "polarity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert len(first) != len(other) or (first.t != other.t).any()


def test_saccades_go_round_and_come_back():
    three, four = triangle(6.0, 5), square(6.0, 5)
    assert three.shape == (16, 2)
    assert four.shape == (21, 2)
    for path in (three, four):
        torch.testing.assert_close(path[0], path[-1])
    legs = three[[0, 5, 10, 15]].diff(dim=0).norm(dim=1)
    torch.testing.assert_close(legs, torch.tensor([45**0.5, 45**0.5, 6.0]))
    torch.testing.assert_close(four.diff(dim=0).norm(dim=1), torch.full((20,), 18**0.5 / 5))


def test_zoom_enlarges_the_picture_about_the_centre():
    # A bright disc of half the sensor's width, moved by a pixel: its events show its size.
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2 < 16**2).float()
    offsets = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    for zoom in (0.5, 1.0, 1.5):
        maps = poses(offsets, (64, 64), zoom=zoom)
        sensor = Sensor(shot_hz=0.0, leak_hz=0.0)
        events = simulate(disc, maps, duration_us=1000, size=(64, 64), sensor=sensor)
        assert np.ptp(events.y) + 1 == pytest.approx(32 * zoom, abs=3)
        assert events.x[events.polarity].mean() > 31.5 + 8 * zoom  # it moves to the right


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"light": pictures() * 255}, "from 0 to 1"),
        ({"light": pictures() * torch.nan}, "from 0 to 1"),
        ({"light": pictures(2)}, "pictures must be"),
        ({"maps": poses(torch.zeros(1, 2), SIZE)[None]}, "two instants"),
        ({"steps": 4}, "steps must divide the 6 intervals"),
        ({"steps": 0}, "steps must divide"),
        ({"duration_us": 0}, "a microsecond"),
    ],
)
def test_impossible_simulations_are_refused(wrong, sentence):
    args = {"light": pictures(), "maps": poses(saccades(CORNERS, 3), SIZE)[None], **wrong}
    with pytest.raises(ValueError, match=sentence):
        simulate_frames(
            args["light"],
            args["maps"],
            duration_us=args.get("duration_us", DURATION),
            size=SIZE,
            steps=args.get("steps", 3),
        )


def test_only_one_picture_is_recorded_at_a_time():
    maps = poses(torch.zeros(2, 2, 2), SIZE)
    with pytest.raises(ValueError, match="one picture at a time, got 2"):
        simulate(pictures(2), maps, duration_us=1000, size=SIZE)


@pytest.mark.parametrize(
    "wrong", [{"on_threshold": 0.0}, {"dark": -1.0}, {"mismatch": math.nan}, {"shot_hz": -1.0}]
)
def test_impossible_sensors_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        Sensor(**wrong)
