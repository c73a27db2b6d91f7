import dataclasses

import numpy as np
import pytest
import torch

from data import open_split
from pictures import Pictures
from recipes import EVENTS_ONE_CORE
from simulated import SIZE, SimulatedEvents, draw_maps, draw_sensor

RECIPE = dataclasses.replace(EVENTS_ONE_CORE, schedule="2x1 1x2", batch_size=24)


@pytest.fixture
def shapes():
    """Fifty pictures of bright squares at random places."""
    random = np.random.default_rng(0)
    images = np.full((50, 32, 32, 3), 40, np.uint8)
    for image in images:
        row, column = random.integers(6, 16, 2)
        image[row : row + 10, column : column + 10] = 220
    return Pictures(images, random.integers(0, 2, 50), ("one", "two"), "train")


def opened(shapes, *, train, rank=0, world=1):
    return SimulatedEvents(RECIPE, shapes, train, torch.device("cpu"), rank, world)


def test_frames_have_the_steps_of_the_schedule_and_mean_one_where_active(shapes):
    batches = opened(shapes, train=True)
    assert len(batches) == 2
    for epoch, steps in ((0, 1), (2, 2)):
        for frames, labels in batches.epoch(epoch):
            assert frames.shape == (24, steps, 2, *SIZE)
            assert labels.shape == (24,)
            for sample in frames:
                assert sample[sample > 0].mean().item() == pytest.approx(1, abs=1e-5)


def test_an_epoch_repeats_itself_and_goes_on_from_any_batch(shapes):
    batches = opened(shapes, train=True)
    first, second = batches.epoch(1)
    (again,) = batches.epoch(1, first=1)
    assert torch.equal(second[0], again[0])
    assert torch.equal(second[1], again[1])
    other, _ = next(iter(batches.epoch(0)))
    assert not torch.equal(first[0], other)


def test_every_test_picture_is_there_once_and_moves_alike_whatever_the_seed(shapes):
    batches = opened(shapes, train=False)
    parts = list(batches.epoch(2))
    assert torch.cat([labels for _, labels in parts]).tolist() == shapes.labels.tolist()
    batches.recipe = dataclasses.replace(RECIPE, seed=5)
    assert torch.equal(parts[0][0], next(iter(batches.epoch(2)))[0])


def test_processes_share_a_batch(shapes):
    alone = [labels for _, labels in opened(shapes, train=True).epoch(0)]
    shared = [opened(shapes, train=True, rank=rank, world=2).epoch(0) for rank in (0, 1)]
    for whole, (_, even), (_, odd) in zip(alone, *shared, strict=True):
        assert torch.equal(whole[0::2], even)
        assert torch.equal(whole[1::2], odd)


def test_motions_keep_within_what_is_said():
    maps = draw_maps(500, 5, torch.Generator().manual_seed(0)).double()
    turns, shifts = maps[..., :2], maps[..., 2]
    # Where the picture's centre is seen: turn @ place + shift = 0.
    places = torch.linalg.solve(turns, -shifts[..., None])[..., 0] * SIZE[0] / 2
    lengths = places.diff(dim=1).norm(dim=2).sum(1)
    assert 1.4 < lengths.min() < 2
    assert 9 < lengths.max() < 10.1
    zooms = 1 / turns.det().abs().sqrt()
    assert 0.79 < zooms.min() < zooms.max() < 1.31
    assert 0.4 < (turns[:, 0].det() < 0).double().mean() < 0.6  # mirrored
    assert places.mean(1).abs().max() < 7


def test_cameras_differ_within_what_is_said():
    sensors = [draw_sensor(torch.Generator().manual_seed(seed)) for seed in range(200)]
    darker = np.array([sensor.off_threshold for sensor in sensors])
    shares = np.array([sensor.on_threshold for sensor in sensors]) / darker
    assert 0.25 <= darker.min() < 0.27
    assert 0.7 < darker.max() <= 0.75
    assert 0.6 <= shares.min() < shares.max() <= 1
    assert max(sensor.shot_hz for sensor in sensors) <= 0.5


def test_simulated_events_are_opened_by_name(pictures, monkeypatch):
    monkeypatch.setenv("MSR_ZOO_DATA", str(pictures.parent))
    pictures.rename(pictures.parent / "cifar10-jpeg.tar.xz")  # a folder will do
    split = open_split(RECIPE, {"input_size": (2, 48, 48)}, train=True, device=torch.device("cpu"))
    assert isinstance(split, SimulatedEvents)
    assert split.classes == ("bright", "dark")
