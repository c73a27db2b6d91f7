"""Splits: no file on both sides, a gap in time, and one sentence where none can be made."""

from dataclasses import replace

import pytest

from msr_zoo.finetune_split import GAP_US, Sample, divide

CLASSES = ["cup", "pen"]


def windows(sources, *, number=20, session=None, first=0, seconds=20):
    """Windows one after another of `sources` recordings of each class."""
    length = seconds * 1_000_000 // number
    return [
        Sample(label, first + 2 * s + label, session, i * length, (i + 1) * length)
        for label in range(2)
        for s in range(sources)
        for i in range(number)
    ]


def sources(samples, chosen):
    return {samples[i].source for i in chosen}


def test_files_of_a_class_are_on_one_side():
    samples = windows(10)
    split = divide(samples, CLASSES)
    parts = [sources(samples, part) for part in (split.train, split.stop, split.test)]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert len(set.union(*parts)) == 20
    for part in (split.train, split.stop, split.test):
        assert {samples[i].label for i in part} == {0, 1}
    assert sources(samples, divide(samples, CLASSES, seed=1).test) != parts[2]


def test_a_session_is_tested_on_and_the_end_of_the_others_tells_when_to_stop():
    samples = windows(1, session="monday") + windows(1, session="tuesday", first=2)
    split = divide(samples, CLASSES)
    assert split.how == "the session tuesday"
    assert split.test == tuple(range(40, 80))
    assert split.stop == (17, 18, 19, 37, 38, 39)
    # Windows last a second, and the gap is two of them.
    assert split.train == (*range(15), *range(20, 35))
    monday = divide(samples, CLASSES, test="monday")
    assert monday.test == tuple(range(40))


def test_folders_named_val_and_test_are_taken_at_their_word():
    samples = [
        sample
        for n, name in enumerate(("test", "train", "val"))
        for sample in windows(2, session=name, number=1, first=10 * n)
    ]
    split = divide(samples, CLASSES)
    assert (split.test, split.train, split.stop) == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))


def test_names_of_sessions_are_known_in_any_case_and_a_session_asked_for_is_tested_on():
    first, second = (windows(2, session=name, first=10 * n) for n, name in enumerate("ab"))
    samples = [replace(s, session="Test") for s in first]
    samples += [replace(s, session="Train") for s in second]
    number = len(first)
    split = divide(samples, CLASSES)
    assert split.how == "the session Test"
    assert set(split.train) | set(split.stop) <= set(range(number, 2 * number))
    turned = divide(samples, CLASSES, test="Train")
    assert turned.test == tuple(range(number, 2 * number))
    assert turned.train


def test_a_split_in_time_leaves_a_gap():
    samples = windows(1, number=100)
    split = divide(samples, CLASSES, by_time=True)
    for label in (0, 1):
        train, stop, test = (
            [samples[i] for i in part if samples[i].label == label]
            for part in (split.train, split.stop, split.test)
        )
        assert len(test) == 20
        assert min(s.begin for s in test) - max(s.end for s in stop) >= GAP_US
        assert min(s.begin for s in stop) - max(s.end for s in train) >= GAP_US


def test_long_windows_leave_a_longer_gap():
    samples = windows(1, number=50, seconds=200)  # of 4 s
    split = divide(samples, CLASSES, by_time=True)
    train, stop, test = ([samples[i] for i in p] for p in (split.train, split.stop, split.test))
    assert min(s.begin for s in test) - max(s.end for s in stop) >= 8_000_000
    assert min(s.begin for s in stop) - max(s.end for s in train) >= 8_000_000


def test_few_pictures_spare_none_to_tell_when_to_stop():
    samples = [Sample(label, 3 * label + i) for label in range(2) for i in range(3)]
    split = divide(samples, CLASSES)
    assert (len(split.train), len(split.stop), len(split.test)) == (4, 0, 2)


@pytest.mark.parametrize(
    ("samples", "kwargs", "words"),
    [
        (windows(1), {}, r"'cup' has only one file.*leak.*--by-time"),
        (windows(2), {"test": "friday"}, "no folder 'friday' to test on"),
        (windows(2, session="a"), {"by_time": True, "test": "a"}, "not both"),
        (windows(2, session="a"), {"test": "a"}, "nothing to train on once the session a"),
        (windows(1, number=1), {"by_time": True}, "'cup' has nothing to train on"),
        (
            windows(1, session="a")[:20] + windows(1, session="b", first=2),
            {},
            "'pen' has nothing to train on once the session b is held out",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(samples, kwargs, words):
    with pytest.raises(ValueError, match=words):
        divide(samples, CLASSES, **kwargs)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"one class \(cup\)"):
        divide(windows(2), ["cup"])
