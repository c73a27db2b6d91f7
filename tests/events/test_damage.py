"""Cut and corrupt files: sound events and a warning, or one clear error; nothing else."""

import os
import struct
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest

from msr_zoo.events import DamagedRecordingWarning, arrays, read_events

from . import writers
from .test_read import DAVIS, FORMATS, assert_same
from .writers import random_events

FUZZED = {name: (write, sensor) for name, (write, _, sensor) in FORMATS.items()}
FUZZED |= {
    "aedat4_lz4": (lambda e: writers.aedat4(e, compression=1, per_packet=50), DAVIS),
    "aedat4_zstd": (lambda e: writers.aedat4(e, compression=3, per_packet=50), DAVIS),
    "hdf5": (writers.hdf5, DAVIS),
}
NEEDS = {"aedat4_lz4": "lz4.frame", "aedat4_zstd": "zstandard", "hdf5": "h5py"}
SECONDS = float(os.environ.get("MSR_ZOO_FUZZ_SECONDS", "5"))  # of the slow fuzzing, per format


def survive(path):
    """Read a damaged file; return its events, or None after a proper error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        events, error = None, None
        try:
            events = read_events(path)
        except ValueError as caught_error:
            error = str(caught_error)
    if error is not None:
        assert str(path) in error
        assert "\n" not in error
    for warning in caught:
        assert warning.category is DamagedRecordingWarning, warning
        assert str(path) in str(warning.message)
    if events is not None:
        assert len(events) == len(events.x) == len(events.y) == len(events.polarity) > 0
        assert (np.diff(events.t) >= 0).all()
        assert 0 <= events.x.min() <= events.x.max() < events.width
        assert 0 <= events.y.min() <= events.y.max() < events.height
    return events


def damaged(data, rng):
    """Cut, flip bytes, insert, remove or repeat; more often near the start, where headers are."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        where = int(len(out) * rng.random() ** rng.choice([1, 3]))
        length = int(rng.integers(1, 17))
        what = rng.integers(0, 6)
        if what <= 2:
            noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
            out[where : where + length] = noise[: len(out) - where]
        elif what == 3:
            out[where:where] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif what == 4:
            del out[where : where + length]
        else:
            del out[max(where, 1) :]
    return bytes(out)


def fuzz(name, path, *, rounds=None, seconds=None):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    write, sensor = FUZZED[name]
    data = write(random_events(400, **sensor, seed=1))
    rng = np.random.default_rng(zlib.crc32(name.encode()) if seconds else 0)
    begin, done, read = time.monotonic(), 0, 0
    while done < rounds if seconds is None else time.monotonic() - begin < seconds:
        path.write_bytes(damaged(data, rng))
        read += survive(path) is not None
        done += 1
    return done, read


@pytest.mark.parametrize("name", FUZZED)
def test_damage_never_crashes(name, tmp_path):
    done, read = fuzz(name, tmp_path / "damaged", rounds=40)
    assert done == 40
    if name not in ("npz", "hdf5"):
        assert read


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_damage_never_crashes_for_long(name, tmp_path):
    done, read = fuzz(name, tmp_path / "damaged", seconds=SECONDS)
    print(f"{name}: {done} damaged files, {read} read in part")


def test_an_npz_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    huge = np.zeros(20_000_000, np.uint8)
    np.savez_compressed(path, x=huge, y=huge, t=huge, p=huge, width=3, height=huge)
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "MAX_UNPACKED", 100_000_000)
        with pytest.raises(ValueError, match=r"bomb\.npz unpacks to 100,0.* at most 100,000,000"):
            read_events(path)
    # The archive's own list tells of fewer bytes than there are.
    true, false = (struct.pack("<I", size) for size in (20_000_128, 500))
    path.write_bytes(path.read_bytes().replace(true, false))
    tracemalloc.start()
    survive(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"npz", "npy_table", "csv"}))
def test_a_cut_recording_gives_the_events_before_the_cut(name, tmp_path):
    write, _, sensor = FORMATS[name]
    events = random_events(2000, **sensor)
    data = write(events)
    path = tmp_path / "cut"
    for part in (0.3, 0.61, 0.999):
        path.write_bytes(data[: int(len(data) * part) | 1])
        found = survive(path)
        assert len(found) > 0.8 * part * (len(events) - 150)
        assert_same(found, events[: len(found)])


def test_a_cut_says_so(tmp_path):
    path = tmp_path / "cut.dat"
    path.write_bytes(writers.dat(random_events(100))[:-3])
    with pytest.warns(DamagedRecordingWarning, match="ends in the middle of a word"):
        assert len(read_events(path)) == 99


@pytest.mark.parametrize("name", ["csv", "npy_table"])
def test_a_cut_table_gives_its_whole_rows(name, tmp_path):
    write, _, sensor = FORMATS[name]
    events = random_events(300, **sensor)
    path = tmp_path / "cut"
    path.write_bytes(write(events)[:-9])
    with pytest.warns(DamagedRecordingWarning):
        found = read_events(path)
    assert 297 <= len(found) <= 299
    assert_same(found, events[: len(found)])


def test_one_corrupt_stamp_loses_one_event(tmp_path):
    events = random_events(1000)
    for stamp in (0, 2**31 - 5):
        data = bytearray(writers.dat(events))
        data[-8 * 500 : -8 * 500 + 4] = int(stamp).to_bytes(4, "little")
        path = tmp_path / "stamp.dat"
        path.write_bytes(data)
        with pytest.warns(DamagedRecordingWarning, match="left out 1 of 1000 events, out of time"):
            found = read_events(path)
        keep = np.arange(1000) != 500
        assert_same(found, events[keep])


def test_events_outside_the_sensor_are_left_out(tmp_path):
    events = random_events(1000)
    data = bytearray(writers.dat(events))
    data[-8 * 500 + 4 : -8 * 500 + 6] = b"\xff\x3f"
    path = tmp_path / "outside.dat"
    path.write_bytes(data)
    with pytest.warns(DamagedRecordingWarning, match="left out 1 of 1000 events, outside"):
        assert len(read_events(path)) == 999


def test_small_disorder_is_sorted_in_silence(tmp_path):
    events = random_events(1000, span_us=100_000)
    order = np.argsort(events.t + np.random.default_rng(0).integers(0, 5000, 1000), kind="stable")
    path = tmp_path / "disorder.dat"
    path.write_bytes(writers.dat(events[order]))
    found = read_events(path)
    np.testing.assert_array_equal(found.t, events.t)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "is not an event recording"),
        (np.random.default_rng(0).bytes(5000), "is not an event recording"),
        (bytes(5000), "is not an event recording"),
        (b"% evt 4.0\n" + bytes(8), "is in EVT 4"),
        (b"% evt 3.0\n", "holds no events"),
        (b"#!AER-DAT1.0\r\n" + bytes(12), "AEDAT 1.0"),
        (b"#!AER-DAT2.0\r\n", "holds no events"),
        (b"#!AER-DAT2.0\r\n# AEChip: DVXplorer\r\n" + bytes(8), "of a DVXplorer"),
        (b"#!AER-DAT4.0\r\n", "damaged header"),
        (b"#!AER-DAT3.1\r\n#Format: Serialized\r\n#!END-HEADER\r\n", "compressed format"),
        (b"the quick brown fox\njumps\n", "does not tell which"),
        (b"x,y\n1,2\n", "holds an array of shape"),
        (b"1 1 1 1\n1 1 1 1\n", "does not tell which"),
        (writers._saved(np.save, arr=np.zeros((5, 7))), r"shape \(5, 7\)"),
        (writers._saved(np.save, arr=np.array([{}])), "cannot be events"),
        (writers._saved(np.savez, a=np.zeros(3), b=np.zeros(3)), "holds the arrays"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_sentence(data, message, tmp_path):
    path = tmp_path / "thing"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRecordingWarning)
        with pytest.raises(ValueError, match=message) as caught:
            read_events(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path / "nothing.raw")
