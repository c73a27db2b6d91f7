"""EventFolder: layouts, splits without leaks, caching, reproducible samples."""

import re
import shutil

import numpy as np
import pytest
import torch

from msr_zoo.events import (
    Augmentation,
    DamagedRecordingWarning,
    EventFolder,
    Holdout,
    Window,
    read_events,
    to_frames,
)
from msr_zoo.events import folder as folder_module
from msr_zoo.events.cache import cached, joined

from . import writers
from .writers import random_events

WINDOW = Window(duration_us=100_000)
SMALL = (32, 32)


def fill(root, classes, recordings, n=3000):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(recordings):
            events = random_events(n, width=128, height=128, seed=10 * label + number)
            write = (writers.dat, writers.aedat2)[number % 2]
            (root / name / f"take{number}.bin").write_bytes(write(events))
    return root


@pytest.fixture
def root(tmp_path):
    return fill(tmp_path / "set", ["cup", "pen"], 5)


def test_samples_are_the_windows_of_the_files(root):
    (root / "cup" / ".hidden").write_bytes(b"?")
    (root / "notes.md").write_text("?")
    (root / "cup" / "take0.bias").write_text("?")
    data = EventFolder(root, window=WINDOW, steps=4, size=SMALL, normalize=False)
    assert data.classes == ["cup", "pen"]
    assert len(data) == 2 * 5 * 9  # the tenth window of a second is cut short by the last event
    assert data.targets == [0] * 45 + [1] * 45
    events = read_events(root / "pen" / "take1.bin")
    begin = int(events.t[0]) + 200_000
    expected = to_frames(events, steps=4, size=SMALL, interval=(begin, begin + 100_000))
    frames, label = data[45 + 9 + 2]
    assert label == 1
    assert data.recordings[45 + 9 + 2].name == "take1.bin"
    torch.testing.assert_close(frames, expected)
    torch.testing.assert_close(data[-1][0], data[len(data) - 1][0])
    with pytest.raises(IndexError):
        data[len(data)]


def test_batches_are_batch_first(root):
    data = EventFolder(root, window=WINDOW, steps=4, size=(32, 48))
    frames, labels = next(iter(torch.utils.data.DataLoader(data, batch_size=6)))
    assert frames.shape == (6, 4, 2, 32, 48)
    assert labels.dtype == torch.int64


def test_train_and_val_share_no_recording(root):
    train, val = (EventFolder(root, split=s, window=WINDOW) for s in ("train", "val"))
    assert not {*train.recordings} & {*val.recordings}
    assert {*train.recordings} | {*val.recordings} == {*EventFolder(root).files}
    assert sorted({*val.targets}) == [0, 1]
    assert len({*val.recordings}) == 2
    other = EventFolder(root, split="val", window=WINDOW, holdout=Holdout(seed=3))
    assert {*other.recordings} != {*val.recordings}


def test_one_recording_a_class_cannot_be_split_by_recording(tmp_path):
    root = fill(tmp_path / "set", ["cup", "pen"], 1)
    assert len(EventFolder(root)) == 2
    with pytest.raises(ValueError, match=r"'cup'.*only one recording.*leak.*gap_us"):
        EventFolder(root, split="val")


def test_a_split_in_time_leaves_a_gap(tmp_path):
    root = fill(tmp_path / "set", ["cup", "pen"], 1, n=20_000)
    holdout = Holdout(fraction=0.3, gap_us=120_000)
    window = Window(duration_us=50_000, stride=10_000)
    train, val = (
        EventFolder(root, split=s, window=window, holdout=holdout) for s in ("train", "val")
    )
    for label in (0, 1):
        ends = [train.events(i)[1][1] for i, t in enumerate(train.targets) if t == label]
        begins = [val.events(i)[1][0] for i, t in enumerate(val.targets) if t == label]
        assert min(begins) - max(ends) >= 120_000 - 100  # an event's distance, not the window's
        assert max(ends) > 0.5e6
        assert min(begins) == pytest.approx(0.7e6, rel=0.01)


def test_split_folders(tmp_path):
    root = tmp_path / "set"
    for session in ("session_a", "session_b"):
        fill(root / session, ["cup", "pen"], 1)
    assert len(EventFolder(root, split="session_a")) == 2
    assert len(EventFolder(root)) == 4
    with pytest.raises(ValueError, match=r"\['session_a', 'session_b'\], not 'train'"):
        EventFolder(root, split="train")
    (root / "cup").mkdir()
    shutil.copy(root / "session_a" / "cup" / "take0.bin", root / "cup")
    with pytest.raises(ValueError, match="mixes"):
        EventFolder(root)


def test_wrong_folders_are_refused(tmp_path, root):
    with pytest.raises(ValueError, match="is not a folder"):
        EventFolder(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no recordings"):
        EventFolder(tmp_path / "empty")
    with pytest.raises(ValueError, match="'train' or 'val', not 'test'"):
        EventFolder(root, split="test")
    with pytest.raises(ValueError, match="no window"):
        EventFolder(root, window=Window(min_events=10**6))
    (root / "cup" / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"photo\.png is not an event recording"):
        EventFolder(root)


@pytest.mark.parametrize("wrong", [{"fraction": 0.0}, {"fraction": 1.0}, {"gap_us": -1}])
def test_impossible_holdouts_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        Holdout(**wrong)


def test_the_transform_is_repeatable_and_changes_with_the_epoch(root):
    kwargs = {"window": WINDOW, "size": SMALL, "transform": Augmentation(shift=8, flip=True)}
    one, two = EventFolder(root, **kwargs), EventFolder(root, **kwargs)
    torch.testing.assert_close(one[3][0], two[3][0])
    first = [one[i][0] for i in range(5)]
    one.set_epoch(1)
    assert any(not torch.equal(one[i][0], first[i]) for i in range(5))
    one.set_epoch(0)
    torch.testing.assert_close(one[4][0], first[4])


def test_the_cache_is_read_once_and_follows_the_contents(root, tmp_path, monkeypatch):
    calls = []

    def counted(path):
        calls.append(path)
        return read_events(path)

    monkeypatch.setattr(folder_module, "read_events", counted)
    cache = tmp_path / "cache"
    plain = EventFolder(root, window=WINDOW, size=SMALL)
    calls.clear()
    one = EventFolder(root, window=WINDOW, size=SMALL, cache=cache)
    assert len(calls) == 10
    two = EventFolder(root, split="val", window=WINDOW, cache=cache)
    assert len(calls) == 10
    assert isinstance(two._recordings.t, np.memmap)
    for i in range(0, len(plain), 17):
        torch.testing.assert_close(one[i][0], plain[i][0])
    assert [entry.name[0] != "." for entry in cache.iterdir()] == [True]

    changed = random_events(3000, width=128, height=128, seed=77)
    (root / "cup" / "take0.bin").write_bytes(writers.dat(changed))
    three = EventFolder(root, window=WINDOW, cache=cache)
    assert len(calls) == 20
    np.testing.assert_array_equal(three.events(0)[0].x, changed.x[: len(three.events(0)[0])])
    EventFolder(root, window=WINDOW, cache=cache, drop_hot_pixels=True)
    assert len(calls) == 30


def test_damage_is_told_whenever_the_recordings_are_opened(root, tmp_path):
    file = next(path for path in sorted((root / "cup").iterdir()) if path.is_file())
    file.write_bytes(file.read_bytes()[:-3])
    for _ in range(2):
        with pytest.warns(DamagedRecordingWarning, match=re.escape(file.name)) as told:
            EventFolder(root, window=WINDOW, size=SMALL, cache=tmp_path / "cache")
        assert len(told) == 1


def test_a_failed_reading_leaves_no_entry(root, tmp_path):
    (root / "cup" / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="photo"):
        EventFolder(root, cache=cache)
    assert list(cache.iterdir()) == []


def test_the_first_of_two_that_fill_the_cache_wins(tmp_path):
    recordings = joined([random_events(100), random_events(50, seed=1)])

    def overtaken():
        cached(tmp_path, "key", lambda: recordings)  # another process, in the meantime
        return recordings

    found = cached(tmp_path, "key", overtaken)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    tmp_path.joinpath("plain").mkdir()
    modes = {(tmp_path / name).stat().st_mode for name in ("key", "plain")}
    assert len(modes) == 1  # another user may read it, where the umask lets them
    np.testing.assert_array_equal(found[1].t, random_events(50, seed=1).t)


def test_sensors_of_different_sizes_share_one_frame(tmp_path):
    for name, side in (("cup", 64), ("pen", 128)):
        (tmp_path / name).mkdir()
        events = random_events(500, width=side, height=side)
        (tmp_path / name / "take").write_bytes(writers.dat(events))
    data = EventFolder(tmp_path, size=(64, 64), normalize=False)
    assert {data.events(i)[0].width for i in range(2)} == {128}
    assert data[0][0][..., 32:].sum() == 0
    assert data[0][0].sum() == 500
