import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import NoPicturesError, SizesDifferError, open_pictures


def test_folder_is_decoded_to_the_pixels_of_its_files(pictures, tmp_path):
    read = open_pictures([pictures], "test")
    assert read.classes == ("bright", "dark")
    assert read.labels.tolist() == [0] * 5 + [1] * 5
    files = sorted((pictures / "test").rglob("*.png"))
    expected = np.stack([np.asarray(Image.open(file)) for file in files])
    assert np.array_equal(read.images, expected)


def test_second_call_maps_the_cache_and_a_changed_folder_is_read_again(pictures, tmp_path):
    open_pictures([pictures], "test")
    caches = set((tmp_path / "cache").iterdir())
    open_pictures([pictures], "test")
    assert set((tmp_path / "cache").iterdir()) == caches
    (pictures / "test" / "dark" / "0.png").unlink()
    assert len(open_pictures([pictures], "test").labels) == 9


def test_no_other_split_is_read(pictures, monkeypatch):
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or b"")
    with pytest.raises(NoPicturesError):
        open_pictures([pictures], "val")
    assert not read


@pytest.mark.parametrize("compression", ["", "xz"])
def test_archive_equals_folder(pictures, tmp_path, compression):
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(pictures / "test", "test")
    from_folder, from_archive = open_pictures([pictures], "test"), open_pictures([archive], "test")
    assert np.array_equal(from_folder.labels, from_archive.labels)
    order = (
        np.lexsort(from_archive.images.reshape(10, -1).T),
        np.lexsort(from_folder.images.reshape(10, -1).T),
    )
    assert np.array_equal(from_archive.images[order[0]], from_folder.images[order[1]])


def test_broken_picture_is_named_and_nothing_is_left(pictures, tmp_path):
    (pictures / "test" / "dark" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"dark/0\.png is not a readable picture"):
        open_pictures([pictures], "test")
    assert not list((tmp_path / "cache").glob("test-*"))


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_a_cut_archive_is_named(pictures, tmp_path, compression):
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(pictures / "test", "test")
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"pictures\.tar is no whole tar archive"):
        open_pictures([archive], "test")


def test_missing_split_and_differing_sizes(pictures):
    with pytest.raises(NoPicturesError, match="no pictures under val/<class>/"):
        open_pictures([pictures], "val")
    buffer = io.BytesIO()
    Image.new("RGB", (17, 16)).save(buffer, "png")
    (pictures / "test" / "dark" / "9.png").write_bytes(buffer.getvalue())
    with pytest.raises(SizesDifferError):
        open_pictures([pictures], "test")
