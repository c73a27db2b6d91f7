"""Writers of every format, from the formats' specifications, for the tests and the benchmark.

Each takes events within what the format can hold and returns a file's bytes.
"""

import io
import itertools
import struct

import numpy as np

from msr_zoo.events import Events


def random_events(n, *, width=640, height=480, span_us=1_000_000, start_us=0, seed=0):
    rng = np.random.default_rng(seed)
    return Events(
        x=rng.integers(0, width, n, dtype=np.int16),
        y=rng.integers(0, height, n, dtype=np.int16),
        t=start_us + np.sort(rng.integers(0, span_us, n)),
        polarity=rng.random(n) < 0.5,
        width=width,
        height=height,
    )


def _interleave(parts):
    """Merge (position, words) parts by position; parts at one position keep their order."""
    position = np.concatenate([position for position, _ in parts])
    words = np.concatenate([words for _, words in parts])
    return words[np.argsort(position, kind="stable")]


def _highs(t, bits):
    """Positions where the upper part of the time changes, and the values."""
    high = t >> bits
    at = np.flatnonzero(np.diff(high, prepend=high[:1] - 1)) if len(t) else np.empty(0, np.int64)
    return at, high[at]


def evt_header(version, events):
    geometry = f"% geometry {events.width}x{events.height}\n"
    return f"% evt {version}\n{geometry}% end\n".encode()


def evt2(events):
    at, high = _highs(events.t, 6)
    kind = events.polarity.astype(np.uint32) << 28
    low = (events.t & 63).astype(np.uint32) << 22
    words = kind | low | events.x.astype(np.uint32) << 11 | events.y.astype(np.uint32)
    highs = (8 << 28 | high & 0x0FFFFFFF).astype(np.uint32)
    body = _interleave([(at - 0.5, highs), (np.arange(len(words)), words)])
    return evt_header("2.0", events) + body.astype("<u4").tobytes()


def evt21(events, *, upper_first=False):
    """Every event is a word of its own, its pixel the ``x % 32``-th right of a base column."""
    at, high = _highs(events.t, 6)
    x = events.x.astype(np.uint64)
    upper = events.polarity.astype(np.uint64) << np.uint64(28)
    upper |= (events.t & 63).astype(np.uint64) << np.uint64(22)
    upper |= (x // 32 * 32) << np.uint64(11) | events.y.astype(np.uint64)
    words = upper << np.uint64(32) | np.uint64(1) << x % 32
    highs = (8 << 28 | high & 0x0FFFFFFF).astype(np.uint64) << np.uint64(32)
    body = _interleave([(at - 0.5, highs), (np.arange(len(words)), words)]).astype("<u8")
    if upper_first:
        body = np.ascontiguousarray(body.view("<u4").reshape(-1, 2)[:, ::-1])
    return evt_header("2.1", events) + body.tobytes()


def evt3(events):
    """Even columns are written singly, odd ones as vectors of a base and twelve pixels."""
    n = np.arange(len(events))
    x, y, t = (column.astype(np.int64) for column in (events.x, events.y, events.t))
    at, high = _highs(t, 12)
    row = y
    polarity = events.polarity.astype(np.int64) << 11
    single = x % 2 == 0
    offset = np.minimum(x % 12, x)
    parts = [
        (at - 0.9, 8 << 12 | high & 0xFFF),
        (n - 0.8, 6 << 12 | t & 0xFFF),
        (n - 0.7, row),
        (n[single], 2 << 12 | polarity[single] | x[single]),
        (n[~single], 3 << 12 | polarity[~single] | (x - offset)[~single]),
        (n[~single], 4 << 12 | 1 << offset[~single]),
    ]
    return evt_header("3.0", events) + _interleave(parts).astype("<u2").tobytes()


def dat(events):
    header = f"% Data file containing events.\n% Version 2\n% Height {events.height}\n"
    header += f"% Width {events.width}\n"
    address = events.x.astype(np.int64) | events.y.astype(np.int64) << 14
    address |= events.polarity.astype(np.int64) << 28
    body = np.stack([events.t & 0xFFFFFFFF, address], axis=1).astype("<u4").tobytes()
    return header.encode() + b"\x00\x08" + body


def aedat2(events, chip="DVS128"):
    header = f"#!AER-DAT2.0\r\n# Timestamps tick: 1 us\r\n# AEChip: retina.{chip}\r\n"
    x, y = events.x.astype(np.int64), events.y.astype(np.int64)
    if chip == "DVS128":
        address = (127 - x) << 1 | (127 - y) << 8 | ~events.polarity
    else:
        address = (events.width - 1 - x) << 12 | (events.height - 1 - y) << 22
        address |= events.polarity.astype(np.int64) << 11
    body = np.stack([address, events.t & 0xFFFFFFFF], axis=1).astype(">u4").tobytes()
    return header.encode() + body


def aedat3(events, *, chip="DAVIS346", per_packet=1000):
    file = io.BytesIO()
    file.write(b"#!AER-DAT3.1\r\n#Format: RAW\r\n")
    file.write(f"#Source 1: {chip}\r\n#!END-HEADER\r\n".encode())
    overflow = events.t >> 31
    starts = {*range(0, len(events), per_packet), *(np.flatnonzero(np.diff(overflow)) + 1)}
    edges = [*sorted(starts), len(events)]
    for first, last in itertools.pairwise(edges):
        part = events[first:last]
        n = len(part)
        data = part.x.astype(np.int64) << 17 | part.y.astype(np.int64) << 2
        data |= part.polarity.astype(np.int64) << 1 | 1
        file.write(struct.pack("<hhiiiiii", 1, 1, 8, 4, int(overflow[first]), n, n, n))
        file.write(np.stack([data, part.t & 0x7FFFFFFF], axis=1).astype("<u4").tobytes())
        # A packet of another type (special events), to be skipped.
        file.write(struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8))
    return file.getvalue()


def _flatbuffer(fields, identifier):
    """A size-less flatbuffer whose root table has the given (layout, value) scalars or vectors."""
    # Layout: root offset, identifier, vtable, table, then the vectors.
    vtable = 8
    table = vtable + 4 + 2 * len(fields)
    table += -table % 8
    offsets, position = [], 4
    for layout, _ in fields:
        size = 4 if layout == "vector" else struct.calcsize(layout)
        position += -(table + position) % size
        offsets.append(position)
        position += size
    out = bytearray(table + position)
    struct.pack_into("<I4s", out, 0, table, identifier)
    struct.pack_into(f"<HH{len(fields)}H", out, vtable, 4 + 2 * len(fields), position, *offsets)
    struct.pack_into("<i", out, table, table - vtable)
    for (layout, value), offset in zip(fields, offsets, strict=True):
        if layout != "vector":
            struct.pack_into(layout, out, table + offset, value)
            continue
        count, data = value
        out += bytes(-(len(out) + 4) % 8)
        struct.pack_into("<I", out, table + offset, len(out) - table - offset)
        out += struct.pack("<I", count) + data
    return bytes(out)


def aedat4(events, *, compression=0, per_packet=5000):
    info = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="1" path="/1/"><attr key="typeIdentifier" type="string">IMUS</attr></node>'
        '<node name="3" path="/3/"><attr key="typeIdentifier" type="string">EVTS</attr>'
        f'<node name="info" path="/3/info/"><attr key="sizeX" type="int">{events.width}</attr>'
        f'<attr key="sizeY" type="int">{events.height}</attr></node></node></node></dv>'
    ).encode()
    fields = [("<i", compression), ("<q", -1), ("vector", (len(info), info + b"\0"))]
    header = _flatbuffer(fields, b"IOHE")
    file = io.BytesIO()
    file.write(b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header)
    layout = np.dtype(
        {
            "names": ["t", "x", "y", "on"],
            "formats": ["<i8", "<i2", "<i2", "?"],
            "offsets": [0, 8, 10, 12],
            "itemsize": 16,
        }
    )
    for first in range(0, len(events), per_packet):
        part = events[first : first + per_packet]
        records = np.zeros(len(part), layout)
        records["t"], records["x"], records["y"] = part.t, part.x, part.y
        records["on"] = part.polarity
        for stream, count, data, kind in (
            (1, 0, b"", b"IMUS"),  # to be skipped
            (3, len(part), records.tobytes(), b"EVTS"),
        ):
            body = _flatbuffer([("vector", (count, data))], kind)
            body = _compressed(struct.pack("<I", len(body)) + body, compression)
            file.write(struct.pack("<ii", stream, len(body)) + body)
    return file.getvalue()


def _compressed(data, compression):
    if compression == 1:
        import lz4.frame

        return lz4.frame.compress(data)
    if compression == 3:
        import zstandard

        return zstandard.compress(data)
    return data


def atis_bin(events):
    """Sensor up to 256 x 240; an overflow record for every 2^13 µs past the 23 bits."""
    t = events.t
    extra = np.maximum((t >> 13) - (1 << 10) + 1, 0)  # so that what is left fits in 23 bits
    n = int(extra[-1]) if len(t) else 0
    at = np.searchsorted(extra, np.arange(1, n + 1))
    records = np.zeros((len(t), 5), np.uint8)
    left = t - (extra << 13)
    records[:, 0], records[:, 1] = events.x, events.y
    records[:, 2] = events.polarity.astype(np.int64) << 7 | left >> 16
    records[:, 3], records[:, 4] = left >> 8 & 255, left & 255
    overflow = np.zeros((n, 5), np.uint8)
    overflow[:, 1] = 240
    stamp = np.minimum(left[np.minimum(at, len(t) - 1)] if n else 0, (1 << 23) - 1)
    overflow[:, 2], overflow[:, 3], overflow[:, 4] = stamp >> 16, stamp >> 8 & 255, stamp & 255
    return _interleave([(at - 0.5, overflow), (np.arange(len(t)), records)]).tobytes()


def _saved(save, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def npz(events):
    return _saved(
        np.savez_compressed, x=events.x, y=events.y, t=events.t, p=events.polarity,
        width=events.width, height=events.height,
    )  # fmt: skip


def npy_structured(events):
    layout = [("timestamp", "<i8"), ("x", "<u2"), ("y", "<u2"), ("polarity", "?")]
    records = np.zeros(len(events), layout)
    records["timestamp"], records["polarity"] = events.t, events.polarity
    records["x"], records["y"] = events.x, events.y
    return _saved(np.save, arr=records)


def npy_table(events):
    columns = [events.x, events.y, events.t, events.polarity]
    return _saved(np.save, arr=np.stack(columns, axis=1).astype(np.int64))


def csv(events):
    rows = np.stack([events.t, events.x, events.y, events.polarity], axis=1)
    lines = [b"%% geometry: %d,%d" % (events.width, events.height), b"t_us,x,y,polarity"]
    return b"\n".join([*lines, *(b"%d,%d,%d,%d" % tuple(row) for row in rows.tolist()), b""])


def hdf5(events):
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        group = out.create_group("events")
        group.attrs["width"], group.attrs["height"] = events.width, events.height
        for name, column in zip(
            "xytp", (events.x, events.y, events.t, events.polarity), strict=True
        ):
            group.create_dataset(name, data=column, compression="gzip")
    return file.getvalue()
