import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import msr_zoo
from msr_zoo.models import ms_resnet, rivals
from studies import degradation, degradation_figure


@pytest.fixture
def small(monkeypatch):
    for module in (ms_resnet, rivals):
        monkeypatch.setattr(module, "CIFAR", {**module.CIFAR, "channels": (4, 6, 8)})
    monkeypatch.setattr(degradation, "REDUCED_TRAIN", 16)
    monkeypatch.setattr(degradation, "REDUCED_TEST", 6)
    monkeypatch.setattr(degradation, "REDUCED_SIZE", 8)


def study(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["degradation.py", *arguments])
    degradation.main()


def test_study_goes_on_and_writes_what_it_trained(pictures, tmp_path, monkeypatch, small):
    out = tmp_path / "results" / "degradation.json"
    arguments = [
        "--reduced", "--depths", "20", "--data", str(pictures), "--runs", str(tmp_path / "runs"),
        "--out", str(out), "--schedule", "2x1", "--warmup-epochs", "0.5", "--batch-size", "8",
        "--lr", "0.01",
    ]  # fmt: skip
    study(monkeypatch, *arguments, "--max-steps", "1")
    assert not out.exists()
    study(monkeypatch, *arguments)
    results = json.loads(out.read_text())
    assert {"command", "commit", "device", "torch"} <= set(results)
    assert results["plan"].startswith("reduced: 16 training and 6 test pictures of 8 px, 2 epochs")
    assert [run["network"] for run in results["runs"]] == list(degradation.NETWORKS)
    recipes = [run["recipe"] for run in results["runs"]]
    for recipe in recipes:
        # One recipe for all: nothing differs but the network.
        assert {**recipe, "model": ""} == {**recipes[0], "model": ""}
        assert recipe["lr"] == 0.01
    for run in results["runs"]:
        assert [epoch["epoch"] for epoch in run["history"]] == [1, 2]
        assert run["train_top1"] == run["history"][-1]["train_top1"]
        assert run["test_top1"] * 6 == pytest.approx(round(run["test_top1"] * 6))
    figure = ElementTree.parse(out.with_suffix(".svg")).getroot()
    assert any(results["plan"] in (e.text or "") for e in figure.iter())
    # A legend of one, then each network's curve in each of two rows.
    assert len([e for e in figure.iter() if e.tag.endswith("polyline")]) == 1 + 2 * 4


def test_smaller_pictures_are_the_first_of_each_class(pictures, tmp_path, small):
    folder = degradation.smaller_pictures(str(pictures), tmp_path / "study")
    for split, number in (("train", 8), ("test", 3)):
        for name in ("bright", "dark"):
            files = sorted((folder / split / name).glob("*.png"))
            assert len(files) == number
            for file, original in zip(
                files, sorted((pictures / split / name).iterdir()), strict=False
            ):
                # Pillow's filter is the same, in fixed point.
                with Image.open(original) as whole, Image.open(file) as shrunk:
                    wanted = np.asarray(whole.resize((8, 8), Image.Resampling.BILINEAR), int)
                    assert np.abs(np.asarray(shrunk, int) - wanted).max() <= 1


def test_smaller_model_is_the_same_network(tmp_path, small):
    name = degradation.smaller_model("sew_resnet20", tmp_path)
    model, named = (msr_zoo.create_model(n, num_classes=10) for n in (name, "sew_resnet20"))
    assert type(model) is type(named)
    assert tuple(model.pretrained_cfg["input_size"]) == (3, 8, 8)
    assert [(k, v.shape) for k, v in model.state_dict().items()] == [
        (k, v.shape) for k, v in named.state_dict().items()
    ]


def test_figure_puts_means_over_seeds_on_the_axis():
    runs = [
        {
            "network": "MS-ResNet",
            "depth": 20,
            "history": [{"train_top1": value, "top1": 0.4} for value in values],
        }
        for values in ((0.0, 0.3), (0.2, 0.5))
    ]
    text = degradation_figure.draw({"runs": runs, "data": "d", "plan": "p", "n": 2})
    left, top, height = (getattr(degradation_figure, key) for key in ("LEFT", "TOP", "HEIGHT"))
    # Axis from 0 to 50 %: means of 10 % and 40 % lie a fifth and four fifths up.
    right = left + degradation_figure.WIDTH
    points = f"{left}.0,{top + 0.8 * height:.1f} {right}.0,{top + 0.2 * height:.1f}"
    assert f'points="{points}"' in text
