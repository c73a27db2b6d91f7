"""Pictures of every mode are read as a person sees them; what is no picture is named."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import msr_zoo
from msr_zoo.event_input import EventInput, recordings_in
from msr_zoo.events import Events
from msr_zoo.predict import EXAMPLE, Predictor, as_rgb, label_names, pictures_in, read_picture


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    return Predictor(msr_zoo.create_model("msresnet20", num_steps=2, zero_init_last=False))


def test_labels_probabilities_and_activity_are_the_models_own(predictor):
    found = predictor(EXAMPLE)
    # 32 px, scaled to 0...1 and normalised as the configuration says, written out.
    image = Image.open(EXAMPLE).resize((32, 32), Image.Resampling.BILINEAR)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    cfg = predictor.model.pretrained_cfg
    x = (x - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]
    with torch.no_grad():
        expected = predictor.model(x[None])[0].softmax(0)
    assert len(found.labels) == 5
    best = sorted(zip(expected.tolist(), cfg["label_names"], strict=True), reverse=True)[:5]
    assert list(found.labels) == [label for _, label in best]
    assert list(found.labels.values()) == pytest.approx([p for p, _ in best], abs=1e-5)
    assert found.activity.pictures == 1
    assert found.picture == str(EXAMPLE)
    assert found.as_dict()["labels"][0] == {
        "label": best[0][1],
        "probability": found.labels[best[0][1]],
    }
    with pytest.raises(ValueError, match="keep_spikes"):
        found.activity.spikes("lif")
    assert predictor(EXAMPLE, keep_spikes=True).activity.spikes("lif").shape == (2, 1, 64, 8, 8)


@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel])
def test_what_wraps_a_model_changes_nothing(predictor, monkeypatch, wrap):
    # Where there is a GPU, DataParallel would move the model there.
    module = sys.modules[torch.nn.DataParallel.__module__]
    monkeypatch.setattr(module, "_get_available_device_type", lambda: None)
    assert Predictor(wrap(predictor.model))(EXAMPLE).as_dict() == predictor(EXAMPLE).as_dict()


def test_a_model_without_data_is_refused():
    with torch.device("meta"):
        model = msr_zoo.create_model("msresnet20")
    with pytest.raises(ValueError, match=r"stem\.0\.weight has no data: it is on the meta device"):
        Predictor(model)


def test_top_k(predictor):
    assert len(Predictor(predictor.model, top_k=99)(EXAMPLE).labels) == 10
    assert (
        list(Predictor(predictor.model, top_k=1)(EXAMPLE).labels)
        == list(predictor(EXAMPLE).labels)[:1]
    )
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        Predictor(predictor.model, top_k=0)
    with pytest.raises(ValueError, match="without classes"):
        Predictor(msr_zoo.create_model("msresnet20", num_classes=0))


def test_names_of_classes():
    create = msr_zoo.create_model
    assert label_names(create("msresnet20"))[3] == "cat"
    assert label_names(create("msresnet20", num_classes=3)) == ["class 0", "class 1", "class 2"]
    model = create("msresnet20")
    model.reset_classifier(10)  # other classes, though as many
    assert label_names(model)[3] == "class 3"
    names = label_names(create("msresnet20", num_classes=1000))
    assert len(set(names)) == 1000
    assert "tabby" in names[281]


def test_models_refuse_what_they_cannot_take(predictor):
    with pytest.raises(ValueError, match="this model takes 4"):
        Predictor(msr_zoo.create_model("msresnet20", in_chans=4))
    recordings = Predictor(msr_zoo.create_model("msresnet20_dvs"))
    with pytest.raises(ValueError, match="takes event recordings, not pictures"):
        recordings(Image.new("RGB", (2, 2)))
    with pytest.raises(ValueError, match="takes pictures, not event recordings"):
        predictor(moving_dot())
    with pytest.raises(ValueError, match=r"chelsea\.jpg is not an event recording"):
        recordings(EXAMPLE)


def test_torch_and_the_engine_give_one_answer(predictor):
    fast, exact = predictor(EXAMPLE), predictor(EXAMPLE, keep_spikes=True)
    assert list(fast.labels) == list(exact.labels)
    assert list(fast.labels.values()) == pytest.approx(list(exact.labels.values()), abs=1e-3)
    assert fast.activity.total.mac == exact.activity.total.mac
    assert fast.activity.total.joules == pytest.approx(exact.activity.total.joules, rel=1e-3)


def test_threads_that_share_a_predictor_get_their_own_activity(predictor):
    images = [Image.new("RGB", (32, 32), colour) for colour in ("white", "teal", "black")]
    alone = [predictor(image).as_dict() for image in images]
    assert len({found["firing_rate"] for found in alone}) == len(images)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(4):
            assert [found.as_dict() for found in pool.map(predictor, images)] == alone


def test_weights_that_change_are_those_that_answer():
    model = msr_zoo.create_model("msresnet20.cifar10", pretrained=True)
    predictor = Predictor(model)
    before = predictor(EXAMPLE)
    with torch.no_grad():
        model.layer3[0].conv1.weight.neg_()
    after, exact = predictor(EXAMPLE), predictor(EXAMPLE, keep_spikes=True)
    assert dict(after.labels) != dict(before.labels)
    assert dict(after.labels) == pytest.approx(dict(exact.labels), abs=0.02)


def moving_dot(milliseconds: int = 250) -> Events:
    """A dot that crosses a sensor of 20 × 16 pixels and fires ten times a millisecond."""
    t = np.arange(0, milliseconds * 1000, 100)
    return Events(
        x=(t // 1000 % 20).astype(np.int16),
        y=(t // 5000 % 16).astype(np.int16),
        t=t + 7_000_000,
        polarity=t // 100 % 2 == 0,
        width=20,
        height=16,
    )


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """A model of recordings, from a folder that says how it wants them."""
    torch.manual_seed(0)
    model = msr_zoo.create_model("msresnet20_dvs", num_classes=3, zero_init_last=False)
    folder = tmp_path_factory.mktemp("weights") / "dvs"
    wanted = EventInput(window_us=100_000, num_steps=4, size=(24, 32))
    msr_zoo.save_pretrained(model, folder, card="", events=wanted, full_precision=True)
    return Predictor(msr_zoo.create_model(f"local-dir:{folder}", pretrained=True))


def test_a_recording_is_the_mean_of_its_windows(recorder, tmp_path):
    events = moving_dot()
    table = np.stack([events.t, events.x, events.y, events.polarity], axis=1)
    # Pixels of the corners tell a reader of text how large the sensor is.
    table[0, 1:3], table[1, 1:3] = (0, 0), (19, 15)
    np.savetxt(tmp_path / "dot.csv", table, "%d", ",", header="t,x,y,p", comments="")
    found = recorder(tmp_path / "dot.csv")
    # The rest of 50 ms is dropped. Counts by a loop, and the normalisation written out.
    frames = torch.zeros(2, 4, 2, 24, 32)
    for t, x, y, p in table[:2000].tolist():
        window, rest = divmod(t - 7_000_000, 100_000)
        frames[window, rest // 25_000, p, y + (24 - 16) // 2, x + (32 - 20) // 2] += 1
    frames = torch.stack([one * (one > 0).sum() / one.sum() for one in frames])
    with torch.no_grad():
        expected = recorder.model(frames).softmax(1)
    names = [f"class {i}" for i in range(3)]
    mean = dict(zip(names, expected.mean(0).tolist(), strict=True))
    assert dict(found.labels) == pytest.approx(mean, abs=1e-3)
    assert [(w.begin, w.end) for w in found.windows] == [
        (7_000_000 + k * 100_000, 7_100_000 + k * 100_000) for k in range(2)
    ]
    for window, row in zip(found.windows, expected.tolist(), strict=True):
        assert dict(window.labels) == pytest.approx(dict(zip(names, row, strict=True)), abs=1e-3)
    assert found.activity.pictures == 2
    record = json.loads(json.dumps(found.as_dict()))
    assert record["recording"].endswith("dot.csv")
    assert len(record["windows"]) == 2


def test_the_config_says_how_recordings_are_cut(recorder):
    assert recorder.event_input == EventInput(window_us=100_000, num_steps=4, size=(24, 32))
    plain = msr_zoo.create_model("msresnet20_dvs")
    assert EventInput.of(plain) == EventInput(num_steps=10, size=(128, 128))
    options = EventInput(window_us=None, sensor=(34, 34), drop_hot_pixels=True)
    assert EventInput.from_dict(json.loads(json.dumps(options.as_dict()))) == options
    (whole,) = options.windows(moving_dot())
    assert whole[0] == (7_000_000, 7_249_901)
    file = recorder.model.pretrained_cfg["file"]
    longer = msr_zoo.create_model(f"local-dir:{Path(file).parent}", pretrained=True, num_steps=7)
    assert Predictor(longer).event_input.num_steps == 7
    with pytest.raises(ValueError, match="unknown: windows_us"):
        EventInput.from_dict({"windows_us": 5})
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        EventInput(num_steps=0)


def test_a_broken_config_is_named(recorder, tmp_path):
    folder = tmp_path / "dvs"
    shutil.copytree(Path(recorder.model.pretrained_cfg["file"]).parent, folder)
    config = json.loads((folder / "config.json").read_text())
    config["spiking"]["events"]["size"] = 128
    (folder / "config.json").write_text(json.dumps(config))
    model = msr_zoo.create_model(f"local-dir:{folder}", pretrained=True)
    with pytest.raises(ValueError, match=r"config\.json: spiking\.events cannot be read"):
        Predictor(model)


def test_a_recording_without_a_full_window_says_so(recorder):
    sparse = Predictor(recorder.model)
    sparse.event_input = EventInput(min_events=10_000)
    with pytest.raises(ValueError, match="no window has 10000 events"):
        sparse(moving_dot())


GRAY = np.array([[0, 64], [128, 255]], dtype=np.uint8)


def pictures() -> dict[str, Image.Image]:
    gray = Image.fromarray(GRAY)
    alpha = Image.merge("LA", (gray, Image.new("L", (2, 2), 255)))
    return {
        "L.png": gray,
        "LA.png": alpha,
        "RGBA.png": alpha.convert("RGBA"),
        "P.gif": gray.convert("P"),
        "RGB.bmp": gray.convert("RGB"),
        "I;16.png": Image.fromarray(GRAY.astype(np.uint16) * 257),
        "I.tif": Image.fromarray(GRAY.astype(np.int32) * 257),
        "F.tif": Image.fromarray(GRAY.astype(np.float32)),
        "unit.tif": Image.fromarray(GRAY.astype(np.float32) / 255),
    }


@pytest.mark.parametrize("name", pictures())
def test_every_mode_gives_the_same_picture(tmp_path, name):
    pictures()[name].save(tmp_path / name)
    image = read_picture(tmp_path / name)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.stack([GRAY] * 3, -1))


def test_black_and_white_and_transparency():
    bits = Image.fromarray(GRAY > 100)
    assert np.asarray(as_rgb(bits))[..., 0].tolist() == [[0, 0], [255, 255]]
    clear = Image.new("RGBA", (1, 1), (10, 20, 30, 0))
    assert as_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (1, 1))
    palette.info["transparency"] = 0
    assert as_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_pictures_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").size == (2, 4)


def test_a_line_is_no_picture(predictor, tmp_path):
    Image.new("1", (60_000, 1)).save(tmp_path / "line.png")
    with pytest.raises(ValueError, match=r"line\.png: .*60,000 × 1 pixels, and the long side"):
        predictor(tmp_path / "line.png")
    with pytest.raises(ValueError, match="1 × 101 pixels, and the long side"):
        predictor(Image.new("L", (1, 101)))
    assert as_rgb(Image.new("L", (100, 1))).size == (100, 1)


def broken(folder, kind: str):
    path = folder / f"{kind}.png"
    if kind == "text":
        path.write_text("not a picture")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(EXAMPLE.read_bytes()[:9000])
    elif kind == "nan":
        path = path.with_suffix(".tif")
        Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(path)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "nan", "folder", "missing"])
def test_a_file_that_is_no_picture_is_named(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(ValueError, match=kind) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_linked_folders_are_looked_into_once(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.png").touch()
    (real / "back").symlink_to(tmp_path / "seen")
    (tmp_path / "seen" / "b").mkdir(parents=True)
    (tmp_path / "seen" / "link").symlink_to(real)
    inside = tmp_path / "seen" / "link" / "a.png"
    assert pictures_in(tmp_path / "seen") == recordings_in(tmp_path / "seen") == [inside]


def test_a_folder_gives_its_pictures_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("c.png", "b/a.JPG", "a.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "events.h5").write_text("x")  # Pillow knows HDF5 by name alone
    assert pictures_in(tmp_path) == [tmp_path / n for n in ("a.png", "b/a.JPG", "c.png")]
    assert pictures_in(tmp_path / "c.png") == [tmp_path / "c.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no picture in this folder"):
        pictures_in(tmp_path / "empty")
    with pytest.raises(ValueError, match="nothing: no such file or folder"):
        pictures_in(tmp_path / "nothing")


def test_a_folder_gives_its_recordings_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("c.raw", "b/a.dat", "a.aedat", "a.bias", ".hidden", "notes.md"):
        (tmp_path / name).write_text("x")
    assert recordings_in(tmp_path) == [tmp_path / n for n in ("a.aedat", "b/a.dat", "c.raw")]
    assert recordings_in(tmp_path / "c.raw") == [tmp_path / "c.raw"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no recording in this folder"):
        recordings_in(tmp_path / "empty")
    with pytest.raises(ValueError, match="nothing: no such file or folder"):
        recordings_in(tmp_path / "nothing")
