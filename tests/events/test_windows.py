"""Cutting recordings into windows, against a loop over windows."""

import numpy as np
import pytest

from msr_zoo.events import Window, cut


def by_duration(t, duration, stride, min_events=1):
    out, begin = [], int(t[0])
    while begin == t[0] or begin + duration <= t[-1] + 1:
        inside = [i for i, time in enumerate(t) if begin <= time < begin + duration]
        if len(inside) >= min_events:
            out.append([inside[0], inside[-1] + 1, begin, begin + duration])
        begin += stride
    return np.array(out).reshape(-1, 4)


@pytest.mark.parametrize(("duration", "stride"), [(100, None), (100, 30), (70, 150), (5000, None)])
@pytest.mark.parametrize("min_events", [1, 6])
def test_windows_by_duration(duration, stride, min_events):
    t = np.sort(np.random.default_rng(0).integers(1000, 3000, 80))
    t = t[(t < 1500) | (t > 1900)]  # a silence, with windows that hold nothing
    window = Window(duration_us=duration, stride=stride, min_events=min_events)
    np.testing.assert_array_equal(
        cut(t, window), by_duration(t, duration, stride or duration, min_events)
    )


def test_windows_by_count_and_whole():
    t = np.arange(0, 1000, 10)
    np.testing.assert_array_equal(cut(t, Window(count=40)), [[0, 40, 0, 391], [40, 80, 400, 791]])
    np.testing.assert_array_equal(cut(t, Window(count=40, stride=30))[:, 0], [0, 30, 60])
    np.testing.assert_array_equal(cut(t, Window(count=400)), [[0, 100, 0, 991]])
    np.testing.assert_array_equal(cut(t, Window()), [[0, 100, 0, 991]])
    assert cut(t[:0], Window()).shape == cut(t, Window(min_events=101)).shape == (0, 4)


def test_a_day_of_silence_costs_nothing():
    t = np.array([0, 86_400_000_000])
    assert len(cut(t, Window(duration_us=1))) == 2


@pytest.mark.parametrize("wrong", [{"count": 0}, {"duration_us": -1}, {"stride": 0}])
def test_numbers_must_be_positive(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        Window(**wrong)


def test_only_one_kind_of_window():
    with pytest.raises(ValueError, match="not both"):
        Window(duration_us=1, count=1)
