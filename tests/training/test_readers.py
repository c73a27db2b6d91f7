"""Shards and Hugging Face data sets, through timm's readers, into training."""

import dataclasses
import io
import json
import tarfile

import pytest
import torch
from PIL import Image
from test_train import arguments, assert_refused, checkpoint

import train
from data import open_split
from readers import TimmBatches
from recipes import CIFAR10_TWO_CORES

CFG = {
    "input_size": (3, 16, 16),
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "num_classes": 2,
}


@pytest.fixture
def shards(pictures, tmp_path):
    """The pictures of the fixture as webdataset shards, three for training and two for testing."""
    pytest.importorskip("webdataset")
    folder = tmp_path / "shards"
    folder.mkdir()
    splits = {}
    for split, theirs, number in (("train", "train", 3), ("test", "validation", 2)):
        files = sorted((pictures / split).rglob("*.png"))
        names = [f"{theirs}-{i:04}.tar" for i in range(number)]
        for i, name in enumerate(names):
            with tarfile.open(folder / name, "w") as tar:
                for file in files[i::number]:
                    key = f"{file.parent.name}-{file.stem}"
                    label = str(int(file.parent.name == "dark")).encode()
                    for ending, data in (("png", file.read_bytes()), ("cls", label)):
                        member = tarfile.TarInfo(f"{key}.{ending}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        lengths = [len(files[i::number]) for i in range(number)]
        splits[theirs] = {
            "name": theirs, "num_samples": len(files), "filenames": names, "shard_lengths": lengths,
        }  # fmt: skip
    (folder / "_info.json").write_text(json.dumps({"splits": splits}))
    (folder / "classes.txt").write_text("bright\ndark\n")
    return folder


def opened(data, *, train, **changes):
    recipe = dataclasses.replace(CIFAR10_TWO_CORES, data=data, schedule="1x1", **changes)
    return open_split(recipe, CFG, train=train, device=torch.device("cpu"))


def test_every_test_picture_comes_out_of_the_shards_once(shards, pictures):
    batches = opened(f"wds/{shards}", train=False, batch_size=4)
    assert isinstance(batches, TimmBatches)
    assert (batches.split, batches.classes) == ("validation", ("bright", "dark"))
    assert batches.num_pictures == 10
    means = sorted(
        (int(label), round(float(image.mean()), 4))
        for images, labels in batches.epoch(0)
        for image, label in zip(images, labels, strict=True)
    )
    expected = []
    for file in (pictures / "test").rglob("*.png"):
        with Image.open(file) as picture:
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        mean = round(float((pixels / 255).mean()), 4)
        expected.append((int(file.parent.name == "dark"), mean))
    assert means == sorted(expected)


def test_an_epoch_has_as_many_batches_as_it_says(shards):
    batches = opened(f"wds/{shards}", train=True, batch_size=4)
    labels = [labels for epoch in (0, 1) for _, labels in batches.epoch(epoch)]
    assert len(labels) == 2 * len(batches)
    assert len(list(batches.epoch(2, first=2))) == len(batches) - 2
    # Pictures of each class, about as many as there are.
    assert 0.3 < torch.cat(labels).float().mean() < 0.7


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
@pytest.mark.parametrize("kind", ["shards", "folder"])
def test_a_resumed_epoch_goes_on_with_the_batches_it_would_have_had(
    kind, shards, pictures, monkeypatch
):
    monkeypatch.setattr("readers.processors", lambda: 2)
    if kind == "folder":
        Image.new("RGB", (40, 24)).save(pictures / "train" / "dark" / "z.png")
    data = f"wds/{shards}" if kind == "shards" else str(pictures)
    options = {"train": True, "batch_size": 4, "crop_padding": 0}
    never_stopped = opened(data, **options)
    assert isinstance(never_stopped, TimmBatches)
    whole = [list(never_stopped.epoch(epoch)) for epoch in (0, 1)]
    torch.manual_seed(12345)  # what else is drawn in between changes nothing
    resumed = list(opened(data, **options).epoch(1, first=3))
    assert len(resumed) == len(whole[1]) - 3
    for (images, labels), (same, theirs) in zip(whole[1][3:], resumed, strict=True):
        assert torch.equal(labels, theirs)
        assert torch.equal(images, same)
    assert not torch.equal(whole[0][0][0], whole[1][0][0])
    assert list(never_stopped.epoch(0, first=len(never_stopped))) == []


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_order_of_several_processes_is_that_of_the_recipes_seed(pictures, monkeypatch):
    Image.new("RGB", (40, 24)).save(pictures / "train" / "dark" / "z.png")

    def order(rank, **recipe):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        options = {"batch_size": 4, "crop_padding": 0, "schedule": "1x1", **recipe}
        batches = open_split(
            dataclasses.replace(CIFAR10_TWO_CORES, data=str(pictures), **options),
            CFG, train=True, device=torch.device("cpu"), rank=rank, world=2,
        )  # fmt: skip
        return list(batches.loader.sampler)

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert {*order(0, seed=1), *order(1, seed=1)} == set(range(49))
    assert order(0, seed=1) != order(0, seed=2)


def test_order_of_the_shards_is_that_of_the_recipes_seed(shards):
    seeds = [
        opened(f"wds/{shards}", train=True, batch_size=4, seed=seed).dataset.reader.common_seed
        for seed in (1, 2)
    ]
    assert seeds == [1, 2]


def test_shards_train_and_go_on(shards, tmp_path):
    data = f"wds/{shards}"
    given = arguments(data, tmp_path / "run", "--schedule", "2x1", "--crop-padding", "0")
    train.main([*given, "--max-steps", "3"])
    train.main(given)
    saved = checkpoint(tmp_path / "run")
    assert [epoch["epoch"] for epoch in saved["history"]] == [1, 2]
    assert saved["classes"] == ("bright", "dark")
    assert saved["history"][-1]["top1"] * 10 == pytest.approx(
        round(saved["history"][-1]["top1"] * 10)
    )


def test_what_shards_lack_is_one_sentence(shards, tmp_path, capsys):
    out = tmp_path / "run"
    schedule = ("--schedule", "1x1")
    assert_refused(capsys, "no folder of shards at /nowhere", "wds//nowhere", out, *schedule)
    sized = ("--schedule", "1x1@12 1x1")
    assert_refused(capsys, "cut to the model's size alone", f"wds/{shards}", out, *sized)
    (shards / "classes.txt").write_text("bright\n")
    with pytest.raises(ValueError, match=r"a picture of class 1, but there are 1; .* classes\.txt"):
        list(opened(f"wds/{shards}", train=False, batch_size=4).epoch(0))
    (shards / "_info.json").write_text(json.dumps({"splits": {}}))
    assert_refused(capsys, "has no split train", f"wds/{shards}", out, *schedule)


def test_a_reader_whose_package_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("readers.PACKAGES", {"hfds": "no_such_package"})
    with pytest.raises(ValueError, match="install the package no_such_package"):
        opened("hfds/someone/pictures", train=True)


def test_a_hugging_face_data_set_is_read(pictures, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    batches = opened(f"hfds/{pictures}", train=False, batch_size=4)
    assert batches.classes == ("bright", "dark")
    labels = torch.cat([labels for _, labels in batches.epoch(0)])
    assert labels.bincount().tolist() == [5, 5]
