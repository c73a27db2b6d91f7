import dataclasses
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from data import SOURCES, MemoryBatches, TimmBatches, find_sources, open_split
from recipes import CIFAR10_TWO_CORES

CFG = {
    "input_size": (3, 16, 16),
    "mean": (0.5, 0.25, 0.0),
    "std": (0.5, 0.5, 0.25),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
}


def opened(folder, *, train, **changes):
    changes = {"data": str(folder), "batch_size": 8, "schedule": "4x1", **changes}
    recipe = dataclasses.replace(CIFAR10_TWO_CORES, **changes)
    return open_split(recipe, CFG, train=train, device=torch.device("cpu"))


def test_test_pictures_are_normalised_and_none_is_missing(pictures):
    batches = opened(pictures, train=False)
    assert isinstance(batches, MemoryBatches)
    images, labels = (torch.cat(parts) for parts in zip(*batches.epoch(0), strict=True))
    assert labels.tolist() == [0] * 5 + [1] * 5
    files = sorted((pictures / "test").rglob("*.png"))
    pixels = torch.from_numpy(np.array(Image.open(files[3]))).float()
    expected = (pixels.permute(2, 0, 1) / 255 - torch.tensor(CFG["mean"]).view(3, 1, 1)) / (
        torch.tensor(CFG["std"]).view(3, 1, 1)
    )
    torch.testing.assert_close(images[3], expected)


def test_every_epoch_has_its_own_order_and_is_the_same_again(pictures):
    batches = opened(pictures, train=True)
    first, again, second = (
        torch.cat([labels for _, labels in batches.epoch(epoch)]) for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert len(first) == batches.num_pictures == 48


def test_a_resumed_epoch_goes_on_with_the_batch_it_would_have_had(pictures):
    batches = opened(pictures, train=True)
    whole, rest = list(batches.epoch(3)), list(batches.epoch(3, first=4))
    assert len(rest) == 2
    for (images, labels), (same_images, same_labels) in zip(whole[4:], rest, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)


@pytest.mark.parametrize(("padding", "expected"), [(4, 12), (0, 12)])
def test_a_phase_has_its_own_size_and_testing_the_models(pictures, padding, expected):
    options = {"schedule": "1x1@12 1x2", "crop_padding": padding}
    train, test = (opened(pictures, train=t, **options) for t in (True, False))
    assert [next(train.epoch(e))[0].shape[-1] for e in (0, 1)] == [expected, 16]
    assert [next(test.epoch(e))[0].shape[-1] for e in (0, 1)] == [16, 16]


def test_crop_of_the_whole_picture_is_padded_with_black(pictures):
    images, _ = next(opened(pictures, train=True, schedule="1x1", crop_padding=8).epoch(0))
    black = -torch.tensor(CFG["mean"]) / torch.tensor(CFG["std"])
    edges = torch.cat([images[:, :, 0], images[:, :, -1]], 2).permute(0, 2, 1)
    assert torch.isclose(edges, black).all(2).any()


def test_cutout_hides_squares_from_training_alone(pictures):
    options = {"cutout": 5, "crop_padding": 0}
    plain = opened(pictures, train=True, crop_padding=0)
    for (images, _), (cut, _) in zip(
        plain.epoch(1), opened(pictures, train=True, **options).epoch(1), strict=True
    ):
        hidden = cut != images
        assert (cut[hidden] == 0).all()
        # Up to 5 × 5 of 16 × 16 pixels, at least 3 × 3 where the square hangs over a corner.
        assert all(9 <= number <= 25 for number in hidden.any(1).sum((1, 2)).tolist())
    test, same = (opened(pictures, train=False, **o).epoch(0) for o in (options, {}))
    assert torch.equal(next(test)[0], next(same)[0])


def test_rand_augment_changes_training_alone_and_goes_on_batch_for_batch(pictures):
    # A batch that is no multiple of the group of pictures that are changed alike.
    options = {"batch_size": 12, "randaugment": 9, "schedule": "4x1"}
    for more in ({"crop_padding": 4}, {"crop_padding": 0, "cutout": 3}):
        plain = torch.cat([x for x, _ in opened(pictures, train=True, batch_size=12).epoch(1)])
        batches = opened(pictures, train=True, **options, **more)
        whole = list(batches.epoch(1))
        assert not torch.equal(torch.cat([images for images, _ in whole]), plain)
        for (images, labels), (same, theirs) in zip(
            whole[2:], batches.epoch(1, first=2), strict=True
        ):
            assert torch.equal(images, same)
            assert torch.equal(labels, theirs)
        other = next(opened(pictures, train=True, **options, **more, seed=1).epoch(1))[0]
        assert not torch.equal(other, whole[0][0])
    test, same = (opened(pictures, train=False, **o).epoch(0) for o in (options, {}))
    assert torch.equal(torch.cat([x for x, _ in test]), torch.cat([x for x, _ in same]))


def test_processes_share_what_rand_augment_draws(pictures):
    recipe = dataclasses.replace(
        CIFAR10_TWO_CORES, data=str(pictures), batch_size=24, schedule="1x1", randaugment=9
    )
    given = {"train": True, "device": torch.device("cpu")}
    whole, labels = next(iter(open_split(recipe, CFG, **given).epoch(0)))
    for rank in range(3):
        share = open_split(recipe, CFG, **given, rank=rank, world=3)
        images, theirs = next(iter(share.epoch(0)))
        assert torch.equal(images, whole[rank::3])
        assert torch.equal(theirs, labels[rank::3])


@pytest.mark.parametrize("name", ["cutout", "randaugment"])
def test_what_changes_pictures_in_memory_is_refused_elsewhere(pictures, name, monkeypatch):
    options = {"train": True, "crop_padding": 0, "schedule": "1x1", name: 4}
    events = pictures.with_name("events")
    pictures.rename(events)
    monkeypatch.setitem(SOURCES, "cifar10-events", [events])
    with pytest.raises(ValueError, match=f"cifar10-events: {name} is for pictures, not for events"):
        opened("cifar10-events", **options)
    Image.new("RGB", (40, 24)).save(events / "train" / "dark" / "z.png")
    with pytest.raises(ValueError, match=f"events: {name} is for pictures of one size"):
        opened(events, **options)


def test_pictures_of_many_sizes_have_no_phases(pictures):
    Image.new("RGB", (40, 24)).save(pictures / "train" / "dark" / "z.png")
    with pytest.raises(ValueError, match="cut to the model's size alone"):
        opened(pictures, train=True, crop_padding=0, schedule="1x1@12 1x2")


@pytest.mark.parametrize("train", [True, False])
def test_pictures_of_many_sizes_come_through_timm(pictures, train):
    Image.new("RGB", (40, 24)).save(pictures / ("train" if train else "test") / "dark" / "z.png")
    batches = opened(pictures, train=train, crop_padding=0, schedule="1x1")
    assert isinstance(batches, TimmBatches)
    assert batches.classes == ("bright", "dark")
    parts = [(images.shape[1:], len(labels)) for images, labels in batches.epoch(0)]
    assert {shape for shape, _ in parts} == {(3, 16, 16)}
    assert sum(number for _, number in parts) == (48 if train else 11)


def test_pictures_of_another_size_come_at_the_models(pictures):
    recipe = dataclasses.replace(
        CIFAR10_TWO_CORES, data=str(pictures), batch_size=8, schedule="1x1"
    )
    for train in (True, False):
        cfg = {**CFG, "input_size": (3, 24, 20)}
        batches = open_split(recipe, cfg, train=train, device=torch.device("cpu"))
        images, _ = next(iter(batches.epoch(0)))
        assert images.shape == (8, 3, 24, 20)


def test_a_split_is_called_what_its_folder_is(pictures):
    assert opened(pictures, train=False).split == "test"
    (pictures / "test").rename(pictures / "val")
    assert opened(pictures, train=False).split == "val"


def test_a_broken_test_picture_is_named_and_no_other_split_taken(pictures):
    shutil.copytree(pictures / "test", pictures / "val")
    (pictures / "test" / "dark" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"test/dark/0\.png is not a readable picture"):
        opened(pictures, train=False)


def test_a_tar_of_many_sizes_is_refused(pictures, tmp_path):
    Image.new("RGB", (40, 24)).save(pictures / "train" / "dark" / "z.png")
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        tar.add(pictures / "train", "train")
    with pytest.raises(ValueError, match="must lie in one folder"):
        opened(tmp_path / "many.tar", train=True)


@pytest.mark.data
def test_cifar10_has_its_pictures(shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("MSR_ZOO_DATA", str(shared_data))
    monkeypatch.setenv("MSR_ZOO_CACHE", str(tmp_path))
    assert find_sources("cifar10") == [shared_data / "cifar10-jpeg.tar.xz"]
    batches = opened("cifar10", train=False)
    assert batches.num_pictures == 10_000
    assert batches.classes[:3] == ("airplane", "automobile", "bird")
    assert torch.bincount(batches.labels).tolist() == [1000] * 10
