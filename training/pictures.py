"""Labelled pictures of one size, decoded once into memory-mapped bytes."""

import hashlib
import io
import json
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# A picture that is shown to a network in training is small; this many bytes fit on disk and card.
LARGEST_CACHE = 8 * 2**30


@dataclass(frozen=True)
class Pictures:
    """`images` is uint8 (N, H, W, C), `labels` int64 (N,); `classes` are named in label order.

    `split` is what the data set calls them.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: str


class NoPicturesError(ValueError):
    """A split has no pictures."""


class SizesDifferError(ValueError):
    """The pictures differ in size, so they cannot be held as one array."""


def open_pictures(sources: list[Path], split: str, cache: Path | None = None) -> Pictures:
    """Read <split>/<class>/<picture> out of folders and tar archives (any compression).

    The first call decodes into `cache` (default $MSR_ZOO_CACHE or ~/.cache/msr_zoo), later ones map
    that. Raises NoPicturesError, SizesDifferError, and ValueError for a broken picture or archive.
    """
    if cache is None:
        cache = Path(os.environ.get("MSR_ZOO_CACHE", Path.home() / ".cache" / "msr_zoo"))
    folder = cache / f"{split}-{_fingerprint(sources)[:16]}"
    if not (folder / "classes.json").exists():
        _decode(sources, split, folder)
    return Pictures(
        # Copy-on-write, because torch warns of a map that is read-only.
        np.load(folder / "images.npy", mmap_mode="c"),
        np.load(folder / "labels.npy"),
        tuple(json.loads((folder / "classes.json").read_text())),
        split,
    )


def _fingerprint(sources: list[Path]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                status = path.stat()
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
        else:
            with source.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _files(source: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the pictures <split>/<class>/<picture>; no other is read."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source).as_posix()
            if path.suffix.lower() in EXTENSIONS and _is_of(name, split):
                yield name, path.read_bytes()
        return
    # A stream, because seeking back in a compressed archive unpacks it from its beginning.
    try:
        with tarfile.open(source, "r|*") as archive:
            for member in archive:
                wanted = member.isfile() and Path(member.name).suffix.lower() in EXTENSIONS
                if wanted and _is_of(member.name, split):
                    file = archive.extractfile(member)
                    assert file is not None
                    yield member.name, file.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(f"{source} is no whole tar archive ({error})") from error


def _is_of(name: str, split: str) -> bool:
    parts = name.split("/")
    return len(parts) >= 3 and parts[-3] == split


def _decode(sources: list[Path], split: str, folder: Path) -> None:
    names: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    total = 0
    for source in sources:
        files = _files(source, split)
        for name, data in tqdm(files, desc=f"decode {source.name}", unit=" pictures"):
            try:
                with Image.open(io.BytesIO(data)) as picture:
                    pixels.append(np.asarray(picture.convert("RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise ValueError(f"{source}: {name} is not a readable picture") from error
            names.append(name.split("/")[-2])
            total += pixels[-1].nbytes
            if pixels[-1].shape != pixels[0].shape or total > LARGEST_CACHE:
                raise SizesDifferError(
                    f"{source}: pictures of several sizes, or very many, must lie in one folder"
                )
    if not names:
        places = ", ".join(map(str, sources))
        raise NoPicturesError(f"no pictures under {split}/<class>/ in {places}")
    classes = sorted(set(names))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unfinished = Path(temporary) / "pictures"
        unfinished.mkdir()
        np.save(unfinished / "images.npy", np.stack(pixels))
        np.save(unfinished / "labels.npy", np.searchsorted(classes, names).astype(np.int64))
        (unfinished / "classes.json").write_text(json.dumps(classes))
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process of the same run was first, and wrote the same.
            if not (folder / "classes.json").exists():
                raise
