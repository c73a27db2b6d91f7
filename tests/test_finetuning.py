"""From a folder of recordings or pictures to a weights folder, and what is in the way."""

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from events import writers
from PIL import Image

import msr_zoo
import msr_zoo_cli
from msr_zoo import finetune_loop, finetuning
from msr_zoo.event_input import EventInput
from msr_zoo.events import Events, around_median, read_events, to_frames
from msr_zoo.finetune_data import RecordedEvents
from msr_zoo.finetune_loop import Tuning
from msr_zoo.finetune_report import draw_confusion
from msr_zoo.hub import save_pretrained
from msr_zoo.predict import Predictor

CLASSES = ["blob", "ring"]


def recording(label, seed, seconds=3):
    """A blob, or a ring of 16 px, somewhere before a camera of 32 px, with noise."""
    rng = np.random.default_rng(seed)
    n = 2000 * seconds
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = 8 if label else 2 * rng.random(n)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    noise = rng.random(n) < 0.05
    x, y = (np.where(noise, rng.uniform(-9, 9, n), v) + rng.integers(11, 21) for v in (x, y))
    return Events(
        x=x.astype(np.int16).clip(0, 31),
        y=y.astype(np.int16).clip(0, 31),
        t=np.sort(rng.integers(0, seconds * 1_000_000, n)),
        polarity=rng.random(n) < 0.5,
        width=32,
        height=32,
    )


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(finetune_loop, "FEWEST", 256)
    small = finetuning.EVENTS.changed({"batch_size": 16, "early_epochs": 0})
    monkeypatch.setattr(finetuning, "EVENTS", small)


@pytest.fixture
def recordings(tmp_path):
    """Two sessions with a recording of each class."""
    root = tmp_path / "things"
    for session in range(2):
        for label, name in enumerate(CLASSES):
            folder = root / f"day{session}" / name
            folder.mkdir(parents=True)
            (folder / "take.npz").write_bytes(writers.npz(recording(label, 2 * session + label)))
    return root


def tiny(name, folder, **kwargs):
    """A weights folder of a small network that knows nothing."""
    torch.manual_seed(0)
    shape = {"depths": (1, 1), "channels": (6, 8), "num_steps": 2, "num_classes": 7}
    model = msr_zoo.create_model(name, zero_init_last=False, **shape, **kwargs)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # neurons that fire
            torch.nn.init.constant_(module.weight, 1.0)
            torch.nn.init.constant_(module.bias, 0.3)
    save_pretrained(model, folder, card="")
    return str(folder)


@pytest.fixture(scope="module")
def event_model(tmp_path_factory):
    return tiny(
        "msresnet20_dvs", tmp_path_factory.mktemp("weights") / "msresnet20_dvs.tiny", in_chans=2
    )


def run(capsys, *argv):
    status = msr_zoo_cli.main([str(arg) for arg in argv])
    return status, *capsys.readouterr()


def test_recordings_become_a_model_that_predict_takes(capsys, tmp_path, recordings, event_model):
    out = tmp_path / "mine"
    argv = (
        "finetune",
        recordings,
        "--model",
        event_model,
        "--out",
        out,
        "--epochs",
        8,
        "--lr",
        0.02,
        "--num-steps",
        3,
    )
    status, printed, told = run(capsys, *argv)
    assert status == 0
    assert "epoch 1/10 (head alone)" in told
    assert "epoch 10/10" in told
    results = json.loads((out / "results.json").read_text())
    assert (results["split"], results["num_steps"]) == ("the session day1", 3)
    assert f"Accuracy    {results['top1'][0]:.1%}" in printed
    assert results["top1"][0] > 0.9
    assert {file.name for file in out.iterdir()} == {
        *("model.safetensors", "config.json", "README.md"),
        *("results.json", "training.json", "confusion.png"),
    }
    # Counted once more, window by window, from the folder alone.
    model = msr_zoo.create_model(f"local-dir:{out}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == CLASSES
    taken = EventInput.of(model)
    assert (taken.window_us, taken.size, taken.field) == (100_000, (48, 48), 32)
    confusion = np.zeros((2, 2), int)
    for label, name in enumerate(CLASSES):
        events = read_events(recordings / "day1" / name / "take.npz")
        frames = torch.stack([frames for _, frames in taken.windows(events)])
        with torch.no_grad():
            named = model(frames).argmax(1)
        confusion[label] = np.bincount(named, minlength=2)
    assert confusion.tolist() == results["confusion"]
    assert confusion.sum() == results["num_pictures"]
    # And as a user would ask, of whole files.
    predictor = Predictor(model)
    for name in CLASSES:
        best = predictor(recordings / "day1" / name / "take.npz").labels
        assert next(iter(best)) == name


def test_a_seed_repeats_the_training(tmp_path, recordings, event_model):
    kwargs = {"model": event_model, "changes": {"epochs": 1, "head_epochs": 1}}
    one = msr_zoo.finetune(recordings, out=tmp_path / "one", **kwargs)
    two = msr_zoo.finetune(recordings, out=tmp_path / "two", **kwargs)
    other = msr_zoo.finetune(recordings, out=tmp_path / "other", seed=1, **kwargs)
    assert one.confusion == two.confusion
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.model.fc.weight, other.model.fc.weight)


def test_the_backbone_is_frozen_first(tmp_path, recordings, event_model, monkeypatch):
    seen = []
    epoch = finetune_loop._epoch

    def watched(model, *args):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        record = epoch(model, *args)
        seen.append({k for k, v in model.state_dict().items() if not torch.equal(v, before[k])})
        return record

    monkeypatch.setattr(finetune_loop, "_epoch", watched)
    changes = {"epochs": 1, "head_epochs": 1}
    msr_zoo.finetune(recordings, out=tmp_path / "out", model=event_model, changes=changes)
    assert seen[0] == {"fc.weight", "fc.bias"}
    assert {"stem.0.weight", "layer1.0.bn1.running_mean", "fc.weight"} <= seen[1]


def test_pictures_work_too(capsys, tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "shades"
    for name, low in (("bright", 128), ("dark", 0)):
        (root / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(low, low + 128, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    model, out = tiny("msresnet20", tmp_path / "msresnet20.tiny"), tmp_path / "out"
    argv = ("finetune", root, "--model", model, "--out", out, "--epochs", 2, "--seed", 3)
    status, printed, _ = run(capsys, *argv)
    assert status == 0
    assert "Accuracy    100.0%" in printed
    status, printed, _ = run(capsys, "predict", root / "dark" / "0.png", "--model", out, "--json")
    assert status == 0
    assert json.loads(printed)["labels"][0]["label"] == "dark"
    assert "spiking" in json.loads((out / "config.json").read_text())


def refused(capsys, tmp_path, *argv):
    """The one sentence that a mistake gets; nothing is left behind."""
    before = set(tmp_path.rglob("*"))
    status, printed, told = run(capsys, "finetune", *argv, "--out", tmp_path / "out")
    assert (status, printed) == (2, "")
    assert told.splitlines()[-1].startswith("msr-zoo: ")
    assert set(tmp_path.rglob("*")) == before
    return told.splitlines()[-1]


def test_bad_input_gets_one_sentence(capsys, tmp_path, recordings, event_model):
    model = ("--model", event_model)
    assert "is not a folder" in refused(capsys, tmp_path, tmp_path / "nowhere")
    told = refused(capsys, tmp_path, recordings, *model, "--num-steps", 0)
    assert "num_steps must be a whole number of at least 1, got 0" in told
    (tmp_path / "empty").mkdir()
    assert "holds no pictures or recordings" in refused(capsys, tmp_path, tmp_path / "empty")
    told = refused(capsys, tmp_path, recordings / "day0", *model)
    assert "'blob' has only one file" in told
    (tmp_path / "one" / "blob").mkdir(parents=True)
    (tmp_path / "one" / "blob" / "take.npz").write_bytes(writers.npz(recording(0, 0)))
    assert "one class (blob)" in refused(capsys, tmp_path, tmp_path / "one", *model)
    assert "no folder 'day7'" in refused(capsys, tmp_path, recordings, *model, "--test", "day7")
    assert "--window-ms" in refused(capsys, tmp_path, recordings, *model, "--window-ms", 0)
    assert "some patience" in refused(capsys, tmp_path, recordings, *model, "--epochs", 0)
    assert "no such folder" in refused(capsys, tmp_path, recordings, "--model", tmp_path / "none")
    assert "close matches" in refused(capsys, tmp_path, recordings, "--model", "msresnet21_dvs")
    assert "diverged" in refused(capsys, tmp_path, recordings, *model, "--lr", 1e30)
    (recordings / "day0" / "blob" / "take.npz").write_bytes(b"nonsense")
    assert "take.npz" in refused(capsys, tmp_path, recordings, *model)


def test_a_missing_package_gets_one_sentence(
    capsys, tmp_path, recordings, event_model, monkeypatch
):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (recordings / "day0" / "blob" / "take.npz").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    told = refused(capsys, tmp_path, recordings, "--model", event_model)
    assert "pip install 'msr-zoo[events]'" in told


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_that_no_card_can_hold_are_refused(capsys, tmp_path, recordings, event_model):
    day = os.fsencode(recordings / "day1")
    os.rename(day + b"/ring", day + b"/r\xf6ng")
    told = refused(capsys, tmp_path, recordings, "--model", event_model)
    assert "the folder b'r\\xf6ng' is not named in UTF-8" in told
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xf6bel"))
    recordings.rename(root)
    assert "b'M\\xf6bel'" in refused(capsys, tmp_path, root, "--model", event_model)


def test_samples_are_not_blank_where_recordings_are_sparse(tmp_path, tmp_path_factory):
    for label, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        events = recording(label, label)
        burst = events.t % 1_000_000 < 10_000
        sparse = replace(
            events, **{k: getattr(events, k)[burst] for k in ("x", "y", "t", "polarity")}
        )
        (tmp_path / name / "take.npz").write_bytes(writers.npz(sparse))
    data = RecordedEvents(
        tmp_path,
        num_steps=2,
        side=16,
        window_us=50_000,
        motion=finetuning.MOTION,
        cache=tmp_path_factory.mktemp("cache"),
    )
    number = len(data.samples)
    assert number
    rng = np.random.default_rng(0)
    drawn = torch.cat([data.augmented(list(range(number)), rng) for _ in range(40)])
    blank = (drawn.flatten(1).abs().sum(1) == 0).float().mean()
    assert blank < 0.05  # of an edge of a burst, motion may leave nothing


def test_a_full_folder_is_refused_before_training(capsys, tmp_path, recordings, event_model):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    assert "not an empty folder" in refused(capsys, tmp_path, recordings, "--model", event_model)


def test_a_folder_that_cannot_be_written_is_refused_before_training(recordings, event_model):
    taken = recordings / "day0" / "blob" / "take.npz"
    lines = []
    with pytest.raises(OSError, match="cannot be written"):
        msr_zoo.finetune(recordings, out=taken / "out", model=event_model, report=lines.append)
    assert lines == []


def test_published_names_are_not_given_to_other_weights(tmp_path, monkeypatch):
    """The folder would be taken for the published weights, by its name."""
    root = tmp_path / "cifar10"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "0.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"msresnet20\.cifar10 is the name of published weights"):
        msr_zoo.finetune(root)
    (tmp_path / "msresnet20.mine").mkdir()
    monkeypatch.chdir(tmp_path / "msresnet20.mine")
    with pytest.raises(ValueError, match=r"msresnet20\.cifar10 is the name of published weights"):
        msr_zoo.finetune(root, model=".")


def test_an_interrupt_leaves_nothing(tmp_path, recordings, event_model):
    before = set(tmp_path.rglob("*"))

    def interrupted(line):
        if line.startswith("epoch 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        msr_zoo.finetune(
            recordings, out=tmp_path / "out", model=event_model, report=interrupted,
            changes={"epochs": 2},
        )  # fmt: skip
    assert set(tmp_path.rglob("*")) == before


def test_short_recordings_are_samples(tmp_path, event_model):
    for label, name in enumerate(CLASSES):
        (tmp_path / "short" / name).mkdir(parents=True)
        for i in range(10):
            events = recording(label, 10 * i + label, seconds=1)[:300]
            (tmp_path / "short" / name / f"{i}.npz").write_bytes(writers.npz(events))
    changes = {"epochs": 1, "head_epochs": 0}
    out = tmp_path / "out"
    tuned = msr_zoo.finetune(tmp_path / "short", out=out, model=event_model, changes=changes)
    assert tuned.results["num_pictures"] == tuned.results["num_files"] == 4
    made = msr_zoo.create_model(f"local-dir:{out}", pretrained=True)
    assert EventInput.of(made) == EventInput.of(tuned.model)
    assert EventInput.of(made).window_us is None


def test_confusion_is_darkest_where_all_are():
    counts = [[8, 0, 0], [2, 2, 4], [0, 0, 9]]
    picture = Image.open(io.BytesIO(draw_confusion(counts, ["a", "b" * 40, "c"]))).convert("L")
    side = 56
    left = picture.width - 16 - 3 * side
    # Beside the number in the middle of a cell.
    shades = [
        [picture.getpixel((left + side * c + 8, left + side * r + 8)) for c in range(3)]
        for r in range(3)
    ]
    assert shades[0][0] == shades[2][2] < shades[1][2] < shades[1][0] == shades[1][1]
    assert min(shades[0][1], shades[2][0]) > shades[1][0]


def test_fewer_epochs_keep_the_share_of_early_ones():
    recipe = Tuning(epochs=24, early_epochs=16)
    assert [recipe.changed({"epochs": n}).early_epochs for n in (1, 3, 12)] == [0, 2, 8]
    assert recipe.changed({"epochs": 12, "early_epochs": 1}).early_epochs == 1
    assert recipe.changed({"lr": 1.0}) == Tuning(epochs=24, early_epochs=16, lr=1.0)


def test_impossible_recipes_are_refused():
    with pytest.raises(ValueError, match="needs an epoch"):
        Tuning(patience=0)
    with pytest.raises(ValueError, match="a recipe has no epoch"):
        Tuning().changed({"epoch": 1})


def test_a_square_about_the_median_is_shrunk_or_enlarged():
    events = recording(1, 0)
    interval = (0, 3_000_000)
    for field, side in ((16, 16), (16, 8), (16, 32)):
        taken = EventInput(num_steps=2, size=(side, side), field=field, normalize=False)
        frames = taken.frames(events, interval)
        assert frames.shape == (2, 2, side, side)
        cut = to_frames(around_median(events, 16), steps=2, size=(16, 16), interval=interval)
        # A pixel becomes four of its height, or four become one of their sum.
        expected = cut.sum() * (4 if side == 32 else 1)
        torch.testing.assert_close(frames.sum(), expected, rtol=0.02, atol=0)
        whole = torch.nn.functional.adaptive_avg_pool2d(frames, 8)
        pooled = torch.nn.functional.adaptive_avg_pool2d(cut, 8) * (4 if side == 8 else 1)
        assert torch.corrcoef(torch.stack([whole.flatten(), pooled.flatten()]))[0, 1] > 0.95
