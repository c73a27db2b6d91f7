"""Pictures of every mode are read as a person sees them; what is no picture is named."""

import numpy as np
import pytest
import torch
from PIL import Image

import msr_zoo
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


def test_top_k(predictor):
    assert len(Predictor(predictor.model, top_k=99)(EXAMPLE).labels) == 10
    assert (
        list(Predictor(predictor.model, top_k=1)(EXAMPLE).labels)
        == list(predictor(EXAMPLE).labels)[:1]
    )
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        Predictor(predictor.model, top_k=0)


def test_names_of_classes():
    create = msr_zoo.create_model
    assert label_names(create("msresnet20"))[3] == "cat"
    assert label_names(create("msresnet20", num_classes=3)) == ["class 0", "class 1", "class 2"]
    names = label_names(create("msresnet20", num_classes=1000))
    assert len(set(names)) == 1000
    assert "tabby" in names[281]


def test_a_model_of_events_takes_no_pictures():
    with pytest.raises(ValueError, match="a picture has 3 channels, and this model takes 2"):
        Predictor(msr_zoo.create_model("msresnet20_dvs"))


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


def test_a_folder_gives_its_pictures_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("c.png", "b/a.JPG", "a.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert pictures_in(tmp_path) == [tmp_path / n for n in ("a.png", "b/a.JPG", "c.png")]
    assert pictures_in(tmp_path / "c.png") == [tmp_path / "c.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no picture in this folder"):
        pictures_in(tmp_path / "empty")
    with pytest.raises(ValueError, match="nothing: no such file or folder"):
        pictures_in(tmp_path / "nothing")
