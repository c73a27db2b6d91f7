"""How fast event recordings are read, in events a second of one core's time.

python -m benchmarks.event_readers

The folder of data (MSR_ZOO_DATA, or ../shared/data) has ``event-recordings`` and
``dvs128-objects.tar.xz``. Large files are real recordings repeated, each time later, to about a
million events; they are read whole, from the page cache. Time is the process's own, system calls
included, so that a busy machine measures nearly the same. Other packages that are installed read
the same files up to arrays in memory.
"""

import argparse
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import provenance, write
from msr_zoo.events import Events, read_events
from msr_zoo.events.prophesee import split_header
from tests.events import writers

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MSR_ZOO_DATA", ROOT.parent / "shared" / "data"))
EVENTS = 1_000_000


def tiled_evt(path: Path, dtype: str, count: int) -> bytes:
    """Repeat an EVT file's words, its TIME_HIGH words going on with every repetition."""
    header, body = split_header(np.fromfile(path, np.uint8))
    words = body[: len(body) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
    bits = 8 * words.itemsize - 4
    high = words >> bits == 8
    stamps = words[high]
    repeated = np.tile(words, (count, 1))
    step = int(stamps.max() - stamps.min()) + 1
    repeated[:, high] += (np.arange(count, dtype=words.dtype) * step)[:, None]
    return header.encode("latin-1") + repeated.tobytes()


def tiled(events: Events) -> Events:
    """Repeat events, each time later, up to EVENTS of them."""
    count = -(-EVENTS // len(events))
    later = np.repeat(np.arange(count) * (events.duration + 1), len(events))
    return replace(
        events,
        x=np.tile(events.x, count),
        y=np.tile(events.y, count),
        t=np.tile(events.t, count) + later,
        polarity=np.tile(events.polarity, count),
    )


def files(data: Path) -> dict[str, bytes]:
    """Make the large file of each format."""
    recordings = data / "event-recordings"
    evt2, evt3 = recordings / "prophesee_evt2.raw", recordings / "prophesee_evt3.raw"
    aedat4 = read_events(recordings / "iniv_320x240.aedat4")
    packet = 1900  # events, as in the real recording
    vga = tiled(read_events(evt2))
    with (
        tarfile.open(data / "dvs128-objects.tar.xz") as archive,
        tempfile.TemporaryDirectory() as d,
    ):
        member = next(m for m in archive if m.name.endswith(".aedat"))
        archive.extract(member, d, filter="data")
        dvs = tiled(read_events(Path(d) / member.name))
    from_1970 = aedat4.t[0]
    return {
        "AEDAT 2.0": writers.aedat2(dvs),
        "AEDAT 3.1": writers.aedat3(
            tiled(replace(aedat4, t=aedat4.t - from_1970)), chip="DAVIS346", per_packet=packet
        ),
        "AEDAT 4.0, LZ4": writers.aedat4(tiled(aedat4), compression=1, per_packet=packet),
        "AEDAT 4.0, Zstandard": writers.aedat4(tiled(aedat4), compression=3, per_packet=packet),
        "EVT 2.0": tiled_evt(evt2, "<u4", -(-EVENTS // 539_481)),
        "EVT 2.1": writers.evt21(vga),
        "EVT 3.0": tiled_evt(evt3, "<u2", -(-EVENTS // 219_596)),
        "DAT": writers.dat(vga),
        "N-MNIST .bin": writers.atis_bin(tiled(read_events(recordings / "nmnist.bin"))),
        ".npy, structured": writers.npy_structured(vga),
        ".npz": writers.npz(vga),
        "HDF5": writers.hdf5(vga),
        "CSV": writers.csv(vga[: EVENTS // 5]),
    }


def others() -> dict[str, dict[str, Callable[[Path], object]]]:
    """Readers of other packages that are installed, by package and format."""
    found: dict[str, dict[str, Callable[[Path], object]]] = {}
    try:
        import aedat

        def read_aedat(path: Path) -> object:
            packets = aedat.Decoder(path)
            return np.concatenate([packet["events"] for packet in packets if "events" in packet])

        found["aedat"] = dict.fromkeys(("AEDAT 4.0, LZ4", "AEDAT 4.0, Zstandard"), read_aedat)
    except ImportError:
        print("aedat is not installed", file=sys.stderr)
    try:
        import expelliarmus

        found["expelliarmus"] = {
            name: lambda path, code=code: expelliarmus.Wizard(encoding=code).read(path)
            for name, code in (("EVT 2.0", "evt2"), ("EVT 3.0", "evt3"), ("DAT", "dat"))
        }
    except ImportError:
        print("expelliarmus is not installed", file=sys.stderr)
    return found


def rate(read: Callable[[Path], object], path: Path, repeats: int) -> dict[str, float]:
    """Best and median of several readings, in million events a second."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        events = read(path)
        seconds.append(time.process_time() - start)
    count = len(events)  # type: ignore[arg-type]
    return {
        "best": round(count / min(seconds) / 1e6, 1),
        "median": round(count / statistics.median(seconds) / 1e6, 1),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that take part, as far as they are installed."""
    out = {}
    for name in ("h5py", "lz4", "zstandard", "aedat", "expelliarmus"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    rows, peers = {}, others()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files(DATA).items():
            # Some of the other packages look at the suffix.
            path = Path(folder) / {"EVT": "a.raw", "DAT": "a.dat"}.get(name[:3], "a.aedat4")
            path.write_bytes(content)
            events = len(read_events(path))
            row: dict[str, object] = {"events": events, "bytes": len(content)}
            row["msr_zoo"] = rate(read_events, path, args.repeats)
            for package, readers in peers.items():
                if name in readers:
                    row[package] = rate(readers[name], path, args.repeats)
            rows[name] = row
            print(f"{name:22}{row}")
    result = provenance(
        "benchmarks.event_readers",
        torch.device("cpu"),
        unit="million events a second of processor time",
        repeats=args.repeats,
        formats=rows,
    )
    result["versions"] |= versions()
    print(write("event_readers", result))


if __name__ == "__main__":
    main()
