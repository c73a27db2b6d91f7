"""Every reader against a second decoder, on small files made here and on real recordings."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from msr_zoo.events import DamagedRecordingWarning, read_events, to_frames

from . import slow, writers
from .writers import random_events

DVS = {"width": 128, "height": 128}
HIGH = {"width": 1280, "height": 720}
DAVIS = {"width": 346, "height": 260}
# name -> (writer, slow decoder or None, sensor)
FORMATS = {
    "evt2": (writers.evt2, slow.evt2, HIGH),
    "evt21": (writers.evt21, slow.evt21, HIGH),
    "evt21_upper_first": (
        lambda e: writers.evt21(e, upper_first=True),
        lambda d: slow.evt21(d, upper_first=True),
        HIGH,
    ),
    "evt3": (writers.evt3, slow.evt3, HIGH),
    "dat": (writers.dat, slow.dat, HIGH),
    "aedat2_dvs128": (writers.aedat2, slow.aedat2_dvs128, DVS),
    "aedat2_davis": (
        lambda e: writers.aedat2(e, "DAVIS346"),
        lambda d: slow.aedat2_davis(d, 346, 260),
        DAVIS,
    ),
    "aedat3": (writers.aedat3, slow.aedat3, DAVIS),
    "aedat4": (
        lambda e: writers.aedat4(e, per_packet=50),
        lambda d: slow.aedat4(d, 3, bytes),
        DAVIS,
    ),
    "atis_bin": (writers.atis_bin, slow.atis_bin, {"width": 34, "height": 34}),
    "npz": (writers.npz, None, HIGH),
    "npy_structured": (writers.npy_structured, None, HIGH),
    "npy_table": (writers.npy_table, None, HIGH),
    "csv": (writers.csv, None, HIGH),
}


def columns(events):
    return [events.x, events.y, events.t, events.polarity]


def assert_same(events, expected):
    """Compare Events with Events or with a list of (x, y, t, polarity)."""
    other = columns(expected) if hasattr(expected, "x") else np.array(expected, np.int64).T
    for mine, theirs in zip(columns(events), other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def read(data, tmp_path):
    path = tmp_path / "recording"  # without a suffix: only the content tells the format
    path.write_bytes(data)
    return read_events(path)


@pytest.mark.parametrize("name", FORMATS)
def test_reads_what_was_written(name, tmp_path):
    write, decode, sensor = FORMATS[name]
    events = random_events(3000, **sensor, start_us=12_345)
    data = write(events)
    found = read(data, tmp_path)
    assert_same(found, events)
    if decode is not None:
        assert_same(found, decode(data))
    assert [column.dtype for column in columns(found)] == [np.int16, np.int16, np.int64, bool]
    if "npy" not in name:
        assert (found.width, found.height) == (events.width, events.height)


@pytest.mark.parametrize(
    ("write", "bits"),
    [
        (writers.evt2, 34),
        (writers.evt21, 34),
        (writers.evt3, 24),
        (writers.dat, 32),
        (writers.aedat2, 32),
        (writers.aedat3, 31),
    ],
)
def test_time_goes_on_past_the_overflow(write, bits, tmp_path):
    events = random_events(2000, **DVS, start_us=2**bits - 500_000)
    found = read(write(events), tmp_path)
    shift = events.t[0] - found.t[0]
    assert shift in (0, 2**bits)
    np.testing.assert_array_equal(found.t + shift, events.t)


@pytest.mark.parametrize("upper_first", [True, False])
@pytest.mark.parametrize("column", [0, 31])
def test_evt21_halves_are_told_apart_by_the_time(upper_first, column, tmp_path):
    # In column 31 every mask is 0x80000000, which looks like a TIME_HIGH word.
    events = random_events(3000, **HIGH)
    x = (events.x // 32 * 32 + column).astype(np.int16)
    events = replace(events, x=np.minimum(x, 1279))
    assert_same(read(writers.evt21(events, upper_first=upper_first), tmp_path), events)


@pytest.mark.parametrize("dense", [0.02, 0.5])
def test_evt21_words_of_many_pixels_against_the_slow_decoder(dense, tmp_path):
    rng = np.random.default_rng(0)
    # More words than a block, of all kinds, those of no event included; times go forward.
    n = 80_000
    kind = rng.choice([0, 1, 8, 10, 14, 15], n, p=[0.4, 0.4, 0.05, 0.05, 0.05, 0.05])
    kind[:50] = rng.choice([0, 1], 50)  # before the first time
    upper = kind << 28 | rng.integers(0, 40, n) * 32 << 11 | rng.integers(0, 720, n)
    high = np.flatnonzero(kind == 8)
    stamps = np.arange(len(high)) + (1 << 28) - len(high) // 2  # overflows half way
    upper[high] = 8 << 28 | stamps & 0x0FFFFFFF
    masks = ((rng.random((n, 32)) < dense) << np.arange(32)).sum(axis=1)
    masks[kind > 1] = 0x80000000
    words = (upper.astype(np.uint64) << np.uint64(32)) | masks.astype(np.uint64)
    data = b"% evt 2.1\n% geometry 1280x720\n" + words.astype("<u8").tobytes()
    path = tmp_path / "words.raw"
    path.write_bytes(data)
    found = read_events(path)
    assert len(found) > 30_000
    expected = np.array(slow.evt21(data))
    expected[:, 2] += (np.arange(len(expected)) >= np.argmin(expected[:, 2])).astype(int) << 34
    assert_same(found, expected)


def test_atis_overflow_records_move_time_on(tmp_path):
    events = random_events(2000, width=240, height=180, start_us=8_000_000)
    assert_same(read(writers.atis_bin(events), tmp_path), events)


@pytest.mark.parametrize(("package", "compression"), [("lz4.frame", 1), ("zstandard", 3)])
def test_aedat4_compressions(package, compression, tmp_path):
    pytest.importorskip(package)
    events = random_events(12_000, **DAVIS, start_us=1_700_000_000_000_000)
    assert_same(read(writers.aedat4(events, compression=compression), tmp_path), events)


def test_evt3_vectors_rows_and_repeated_times_against_the_slow_decoder(tmp_path):
    rng = np.random.default_rng(0)
    # All kinds of words in any order, in blocks larger than the decoder's, times going forward.
    n = 150_000
    kind = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 10, 14, 15], n)
    words = kind << 12 | rng.integers(0, 4096, n)
    rows = kind == 0
    words[rows] = rng.integers(0, 720, rows.sum())
    base = kind == 3
    words[base] = 3 << 12 | rng.integers(0, 2, base.sum()) << 11 | rng.integers(0, 900, base.sum())
    words[(kind == 4) | (kind == 5)] &= 0xF0FF
    single = kind == 2
    words[single] = 2 << 12 | rng.integers(0, 1280, single.sum())
    low = np.flatnonzero(kind == 6)
    words[low] = 6 << 12 | np.arange(len(low)) % 4096
    words[low[::4096][1:] - 1] = 8 << 12 | np.arange(1, len(low[::4096]))
    words[:1000][kind[:1000] == 4] = 7 << 12  # so that some events come before the first time
    words[1000] = 8 << 12
    data = b"% evt 3.0\n% geometry 1280x720\n" + words.astype("<u2").tobytes()
    expected = [event for event in slow.evt3(data) if event[0] < 1280]
    path = tmp_path / "words.raw"
    path.write_bytes(data)
    if len(expected) < len(slow.evt3(data)):
        with pytest.warns(DamagedRecordingWarning, match="outside the sensor"):
            found = read_events(path)
    else:
        found = read_events(path)
    assert len(found) > 50_000
    assert_same(found, sorted(expected, key=lambda event: event[2]))


TEXT = {
    "seconds": b"0.000010 5 6 1\n0.000025 7 8 0\n0.000025 9 1 1\n",
    "x,y,p,t": b"5,6,1,10\n7,8,0,25\n9,1,1,25\n",
    "named": b"\xef\xbb\xbfPolarity;Timestamp [ns];X;Y\r\n"
    b"True;10000;5;6\r\nFalse;25000;7;8\r\n1;25000;9;1\r\n",
    "signs": b"# t x y p\n10 5 6 1\n25 7 8 -1\n25 9 1 1\n",
    "milliseconds": b"x,y,t_ms,p\n5,6,0.010,1\n7,8,0.025,0\n9,1,0.025,1\n",
    "unit in full": b"x,y,t_nanoseconds,p\n5,6,10000,1\n7,8,25000,0\n9,1,25000,1\n",
    "greek": "x,y,t [μs],p\n5,6,10,1\n7,8,25,0\n9,1,25,1\n".encode(),
    "no English": "# aufgenommen von Müller, µs\nx,y,t,p\n5,6,10,1\n7,8,25,0\n9,1,25,1\n".encode(),
    "of percents": "% Küche\n% t x y p\n10 5 6 1\n25 7 8 0\n25 9 1 1\n".encode(),
}


def test_text_may_be_cut_within_a_character(tmp_path):
    comment = "#" + "ü" * 3000 + "\n"  # odd, so that the first 4096 bytes end in the middle of one
    found = read(comment.encode() + TEXT["x,y,p,t"], tmp_path)
    assert_same(found, [(5, 6, 10, 1), (7, 8, 25, 0), (9, 1, 25, 1)])


def test_what_lies_beside_the_events_of_an_npz_is_left_alone(tmp_path):
    events = random_events(50, **HIGH)
    arrays = {"x": events.x, "y": events.y, "t": events.t, "p": events.polarity}
    beside = {"label": 3, "camera": "DVS128", "meta": np.array({"lens": 8}, object)}
    path = tmp_path / "take.npz"
    np.savez(path, **arrays, **beside, width=[1280], height=[720])
    found = read_events(path)
    assert_same(found, events)
    assert (found.width, found.height) == (1280, 720)


@pytest.mark.parametrize("padding", range(4))
def test_a_header_of_evt_may_hold_any_letters(padding, tmp_path):
    line = f"% Küche{'.' * padding}\n".encode()
    for write in (writers.evt2, writers.evt3):
        data = write(random_events(200, **HIGH))
        first, rest = data.split(b"\n", 1)
        assert_same(read(first + b"\n" + line + rest, tmp_path), read(data, tmp_path))
        assert_same(read(line + data, tmp_path), read(data, tmp_path))


@pytest.mark.parametrize("name", TEXT)
def test_text_in_many_layouts(name, tmp_path):
    found = read(TEXT[name], tmp_path)
    assert_same(found, [(5, 6, 10, 1), (7, 8, 25, 0), (9, 1, 25, 1)])
    assert (found.width, found.height) == (10, 9)


def test_hdf5_layouts(tmp_path):
    h5py = pytest.importorskip("h5py")
    events = random_events(500, **HIGH)
    assert_same(read(writers.hdf5(events), tmp_path), events)
    fields = [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]
    records = np.zeros(len(events), fields)
    records["x"], records["y"] = events.x, events.y
    records["t"], records["p"] = events.t, events.polarity
    seconds = np.stack([events.x, events.y, events.t / 1e6, 2 * events.polarity - 1.0], axis=1)
    layouts = {
        "CD/events": {"CD/events": records},
        "davis/left/events": {"davis/left/events": seconds},
        "events/ts": {
            "events/xs": events.x,
            "events/ys": events.y,
            "events/ts": events.t / 1e6,
            "events/ps": events.polarity,
        },
        "DSEC": {
            "events/x": events.x,
            "events/y": events.y,
            "events/t": events.t.astype(np.uint32),
            "events/p": events.polarity.astype(np.uint8),
            "t_offset": np.int64(0),
            "ms_to_idx": np.arange(10),
        },
    }
    for number, layout in enumerate(layouts.values()):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            for name, data in layout.items():
                file[name] = data
        assert_same(read_events(path), events)


def test_missing_packages_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py: pip install 'msr-zoo\[events\]'"):
        read(b"\x89HDF\r\n\x1a\n" + bytes(600), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "lz4.frame", None)
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    header = bytearray(writers.aedat4(random_events(10)))
    for compression, package in ((1, "lz4"), (3, "zstandard")):
        at = bytes(header).index(b"\xff" * 8) - 4  # the compression stands before the -1
        at = at if header[at : at + 4] in (bytes(4), b"\1\0\0\0") else at - 4
        header[at] = compression
        with pytest.raises(ImportError, match=rf"{package}.*pip install 'msr-zoo\[events\]'"):
            read(bytes(header), tmp_path)


# Events of real recordings, from DESIGN's account of them; AEDAT4 and AEDAT 2.0 by slow decoders.
REAL = {
    "prophesee_evt2.raw": (slow.evt2, 539_481, (640, 480)),
    "prophesee_evt3.raw": (slow.evt3, 219_596, (1280, 720)),
    "ncars.dat": (slow.dat, 2_009, (78, 42)),
    "nmnist.bin": (slow.atis_bin, 4_325, (34, 34)),
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name, shared_data):
    decode, count, size = REAL[name]
    path = shared_data / "event-recordings" / name
    found = read_events(path)
    assert len(found) == count
    assert (found.width, found.height) == size
    assert_same(found, decode(path.read_bytes()))


@pytest.mark.data
def test_real_aedat4(shared_data):
    frame = pytest.importorskip("lz4.frame")
    path = shared_data / "event-recordings" / "iniv_320x240.aedat4"
    found = read_events(path)
    assert (found.width, found.height) == (320, 240)
    assert_same(found, slow.aedat4(path.read_bytes(), 0, frame.decompress))


@pytest.mark.data
def test_real_aedat2(shared_data, tmp_path):
    with tarfile.open(shared_data / "dvs128-objects.tar.xz") as archive:
        for member in [m for m in archive if m.name.endswith(".aedat")][:3]:
            data = archive.extractfile(member).read()
            path = tmp_path / "dvs.aedat"
            path.write_bytes(data)
            found = read_events(path)
            assert (found.width, found.height) == (128, 128)
            assert_same(found, slow.aedat2_dvs128(data))
            # What a pixel sends alone is leak, which makes it brighter (Nozaki & Delbruck, 2017).
            counts = to_frames(found, steps=1000, size=(128, 128))
            around = torch.nn.functional.avg_pool2d(counts.sum(1), 5, stride=1, padding=2) * 25
            alone = (counts.sum(1) == 1) & (around < 1.5)
            assert (counts[:, 1] * alone).sum() > 0.6 * alone.sum()


@pytest.mark.data
def test_real_nmnist_set_reads_without_a_warning(shared_data, tmp_path):
    with tarfile.open(shared_data / "nmnist-1k.tar.xz") as archive:
        members = [m for m in archive if m.name.endswith(".bin")]
        for member in members[::20]:
            data = archive.extractfile(member).read()
            path = tmp_path / "sample"
            path.write_bytes(data)
            found = read_events(path)
            assert (found.width, found.height) == (34, 34)
            assert_same(found, slow.atis_bin(io.BytesIO(data).getvalue()))
