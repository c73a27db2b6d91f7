import hashlib
import json
import shutil
import sys
from xml.etree import ElementTree

import pytest

import msr_zoo
from msr_zoo.hub import save_pretrained
from msr_zoo.models import ms_resnet
from studies import few_spikes


@pytest.fixture
def weights(monkeypatch, tmp_path):
    monkeypatch.setattr(ms_resnet, "CIFAR", {**ms_resnet.CIFAR, "channels": (4, 6, 8)})
    model = msr_zoo.create_model("msresnet20", num_classes=2, num_steps=2, zero_init_last=False)
    model.pretrained_cfg["label_names"] = ["bright", "dark"]
    save_pretrained(model, tmp_path / "weights", card="")
    return tmp_path / "weights"


def test_a_heavier_penalty_leaves_fewer_spikes(pictures, weights, tmp_path, monkeypatch):
    out = tmp_path / "results" / "few_spikes.json"
    arguments = [
        "few_spikes.py", str(weights), "--data", str(pictures), "--penalties", "0", "30",
        "--schedule", "4x2", "--runs", str(tmp_path / "runs"), "--out", str(out),
        "--batch-size", "8", "--lr", "0.02",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*arguments, "--max-steps", "1"])
    few_spikes.main()
    assert not out.exists()
    monkeypatch.setattr(sys, "argv", arguments)
    few_spikes.main()
    results = json.loads(out.read_text())
    assert {"command", "commit", "device", "torch"} <= set(results)
    free, held = results["points"]
    assert (free["penalty"], held["penalty"]) == (0, 30)
    assert free["num_pictures"] == held["num_pictures"] == 10
    assert len(free["top1_by_step"]) == 2
    rates = [point["activity"]["spikes_per_neuron"] for point in (free, held)]
    assert rates[1] < 0.8 * rates[0]
    figure = ElementTree.parse(out.with_suffix(".svg")).getroot()
    titles = [e.text for e in figure.iter() if e.tag.endswith("title")]
    assert titles == [
        f"penalty {p['penalty']:g}: {p['top1'][0]:.2%}, {rate:.3f} spikes a neuron"
        for p, rate in zip(results["points"], rates, strict=True)
    ]


def test_a_teacher_and_a_lower_learning_rate_pass_through(
    pictures, weights, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "few_spikes.json"
    arguments = [
        "few_spikes.py", str(weights), "--data", str(pictures), "--penalties", "0",
        "--schedule", "1x2", "--runs", str(tmp_path / "runs"), "--out", str(out),
        "--batch-size", "8",
    ]  # fmt: skip
    teacher = f"local-dir:{weights}"
    given = ["--teacher", teacher, "--lr", "0.002"]
    monkeypatch.setattr(sys, "argv", [*arguments, *given])
    few_spikes.main()
    results = json.loads(out.read_text())
    assert (results["recipe"]["teacher"], results["recipe"]["lr"]) == (teacher, 0.002)
    assert results["recipe"]["pretrained"] is True
    assert results["command"].endswith(" ".join(given))
    digest = hashlib.sha256((weights / "model.safetensors").read_bytes()).hexdigest()
    assert (results["weights_sha256"], results["seeds"]) == (digest, [0])
    # Another teacher is another study, which must not go on from this one's runs.
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as error:
        few_spikes.main()
    assert error.value.code == 2
    assert "made by another recipe" in capsys.readouterr().err
    # Other weights of the same name begin anew.
    model = msr_zoo.create_model("msresnet20", num_classes=2, num_steps=2)
    shutil.rmtree(weights)
    save_pretrained(model, weights, card="")
    few_spikes.main()
    assert json.loads(out.read_text())["weights_sha256"] != digest


def test_a_folder_without_weights_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["few_spikes.py", str(tmp_path)])
    with pytest.raises(SystemExit) as error:
        few_spikes.main()
    assert error.value.code == 2
    assert "is no weights folder: it has no config.json" in capsys.readouterr().err
