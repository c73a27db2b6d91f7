import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file
from test_train import arguments

import evaluate
import export
import msr_zoo
import report
import train


@pytest.fixture
def weights(pictures, tmp_path, monkeypatch):
    """A weights folder with its results, by the commands that make the real ones."""
    run, folder = tmp_path / "run", tmp_path / "msresnet20.test"
    train.main(arguments(pictures, run))
    monkeypatch.setattr(sys, "argv", ["export.py", str(run), "--out", str(folder)])
    export.main()
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(folder), "--data", str(pictures)])
    evaluate.main()
    return folder


def test_exported_weights_are_those_of_the_run_rounded_once(weights, tmp_path):
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    model = msr_zoo.create_model(f"local-dir:{weights}", pretrained=True)
    assert model.num_steps == 2
    assert model.pretrained_cfg["label_names"] == ["bright", "dark"]
    for key, value in model.state_dict().items():
        half = value.dim() > 1 or key.startswith("fc.")
        assert torch.equal(value, saved[key].half().float() if half else saved[key]), key


def test_weights_that_were_trained_on_keep_what_was_before(
    weights, pictures, tmp_path, monkeypatch
):
    run, folder = tmp_path / "again", tmp_path / "msresnet20.again"
    start = ["--model", f"local-dir:{weights}", "--pretrained", "true"]
    train.main([*arguments(pictures, run), *start])
    monkeypatch.setattr(sys, "argv", ["export.py", str(run), "--out", str(folder)])
    export.main()
    training = json.loads((folder / "training.json").read_text())
    assert training["before"] == json.loads((weights / "training.json").read_text())
    results = json.loads((weights / "results.json").read_text())
    for epoch, seconds in zip((training, training["before"]), (60, 600), strict=True):
        epoch["history"] = [{"seconds": seconds}]
    card = report.card(results, training)
    assert card.count("; then, from the weights of that, data") == 1
    assert "in 11 minutes" in card
    third = {**training, "before": training}
    assert report.card(results, third).count("; then, from the weights of that, data") == 2
    assert "in 12 minutes on" in report.card(results, third)
    third["before"]["recipe"]["teacher"] = "resnet_twin20.cifar10"
    assert "in 12 minutes (those of its teacher not counted) on" in report.card(results, third)


def test_grown_weights_keep_what_they_grew_from(weights, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "WHEEL", tmp_path)
    run, folder = tmp_path / "deep", tmp_path / "msresnet32.test"
    growing = ["--model", "msresnet32", "--grown-from", f"local-dir:{weights}"]
    train.main([*arguments(pictures, run), *growing])
    saved = torch.load(run / "last.pt", weights_only=True)
    for source in (f"local-dir:{weights}", weights.name):  # a name is a folder of the wheel
        saved["recipe"]["grown_from"] = source
        torch.save(saved, run / "last.pt")
        shutil.rmtree(folder, ignore_errors=True)
        monkeypatch.setattr(sys, "argv", ["export.py", str(run), "--out", str(folder)])
        export.main()
        training = json.loads((folder / "training.json").read_text())
        assert training["before"] == json.loads((weights / "training.json").read_text())
    results = json.loads((weights / "results.json").read_text())
    assert f"grown_from {weights.name}" in report.card(results, training)
    assert "grown_lr" not in report.card(results, training["before"])


@pytest.mark.parametrize(("name", "steps"), [("msresnet20", 2), ("resnet_twin20", 1)])
def test_weights_take_the_steps_of_the_last_epochs_and_a_twin_one(
    pictures, tmp_path, monkeypatch, name, steps
):
    run, folder = tmp_path / "run", tmp_path / f"{name}.test"
    train.main(arguments(pictures, run, "--model", name, "--schedule", "1x2"))
    monkeypatch.setattr(sys, "argv", ["export.py", str(run), "--out", str(folder)])
    export.main()
    assert msr_zoo.create_model(f"local-dir:{folder}", pretrained=True).num_steps == steps


def test_weights_are_measured_at_another_t_beside_their_own_results(
    weights, pictures, tmp_path, monkeypatch, capsys
):
    own = (weights / "results.json").read_text()
    command = ["evaluate.py", str(weights), "--data", str(pictures), "--num-steps"]
    for options, message in (
        (["4"], "--out is needed for another T"),
        (["0", "--out", str(tmp_path / "0.json")], "num_steps must be"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, *options])
        with pytest.raises(SystemExit):
            evaluate.main()
        assert message in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*command, "4", "--out", str(tmp_path / "4.json")])
    evaluate.main()
    longer = json.loads((tmp_path / "4.json").read_text())
    assert longer["num_steps"] == 4
    assert longer["top1_by_step"][:2] == json.loads(own)["top1_by_step"]
    assert (weights / "results.json").read_text() == own


def test_size_on_disk_is_known_before_it_is_written(weights):
    model = msr_zoo.create_model(f"local-dir:{weights}", pretrained=True)
    stored = load_file(weights / "model.safetensors").values()
    assert export.stored_bytes(model) == sum(t.numel() * t.element_size() for t in stored)


def test_weights_too_large_for_the_wheel_are_sent_to_the_hub(
    weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(export, "WHEEL", tmp_path / "wheel")
    monkeypatch.setattr(export, "WHEEL_BYTES", 500_000)
    out = tmp_path / "wheel" / "msresnet20.big"
    monkeypatch.setattr(sys, "argv", ["export.py", str(tmp_path / "run"), "--out", str(out)])
    with pytest.raises(SystemExit) as error:
        export.main()
    assert error.value.code == 2
    assert "0.6 MB are too many for the wheel" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.setattr(export, "GIT_BYTES", 500_000)
    hub = tmp_path / "hub" / "msresnet20.big"
    monkeypatch.setattr(sys, "argv", ["export.py", str(tmp_path / "run"), "--out", str(hub)])
    export.main()
    assert (hub / "model.safetensors").exists()
    assert "commit all of the folder but it" in capsys.readouterr().out


def test_training_starts_from_exported_weights(weights, pictures, tmp_path):
    options = ("--model", f"local-dir:{weights}", "--pretrained", "true", "--lr", "0")
    train.main(arguments(pictures, tmp_path / "tuned", *options))
    tuned = torch.load(tmp_path / "tuned" / "last.pt", weights_only=True)["model"]
    model = msr_zoo.create_model(f"local-dir:{weights}", pretrained=True)
    for key, value in model.named_parameters():
        assert torch.equal(value, tuned[key]), key


def test_results_say_what_was_measured(weights):
    results = json.loads((weights / "results.json").read_text())
    assert results["num_pictures"] == 10
    assert len(results["top1_by_step"]) == results["num_steps"] == 2
    assert results["top1"] == results["top1_by_step"][-1:]
    low, high = results["top1_interval95"]
    assert low <= results["top1"][0] <= high
    low, high = results["top5_interval95"]
    assert low <= results["top5"][0] <= high
    assert results["activity"]["pictures"] == 10
    assert results["seeds"] == [0]


def test_card_is_made_from_the_results(weights):
    results = json.loads((weights / "results.json").read_text())
    training = json.loads((weights / "training.json").read_text())
    card = report.card(results, training)
    assert f"top-1, test split | {results['top1'][0]:.2%}" in card
    assert training["provenance"]["commit"][:12] in card


def test_card_of_a_twin_says_that_it_does_not_spike(weights):
    results = json.loads((weights / "results.json").read_text())
    training = json.loads((weights / "training.json").read_text())
    results |= {
        "model": "resnet_twin20.test",
        "activity": {**results["activity"], "stage_rates": {}},
    }
    card = report.card(results, training)
    assert "The non-spiking twin of MS-ResNet" in card
    assert "| synaptic operations a picture | " in card
    assert "firing rate" not in card
    assert "spikes a neuron" not in card


def test_unfinished_run_is_not_exported(pictures, tmp_path, monkeypatch, capsys):
    train.main(arguments(pictures, tmp_path / "run", "--max-steps", "1"))
    monkeypatch.setattr(sys, "argv", ["export.py", str(tmp_path / "run"), "--out", "x"])
    with pytest.raises(SystemExit) as error:
        export.main()
    assert error.value.code == 2
    assert "is not finished" in capsys.readouterr().err


def test_an_export_takes_the_place_of_what_is_there(weights, tmp_path, monkeypatch, capsys):
    command = ["export.py", str(tmp_path / "run"), "--out", str(weights)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        export.main()
    assert "is there already" in capsys.readouterr().err
    (tmp_path / f".{weights.name}.new").mkdir()
    (tmp_path / f".{weights.name}.new" / "half").touch()  # left by one that was killed
    monkeypatch.setattr(sys, "argv", [*command, "--replace"])
    export.main()
    files = {file.name for file in weights.iterdir()}
    # What was measured of the former is gone with it.
    assert files == {"README.md", "config.json", "model.safetensors", "training.json"}
    assert not list(tmp_path.glob(".*"))


def test_a_place_that_is_none_is_refused_before_measuring(weights, tmp_path, monkeypatch, capsys):
    command = [
        "evaluate.py",
        str(weights),
        "--data",
        "nowhere",
        "--out",
        str(tmp_path / "a/b.json"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        evaluate.main()
    assert "is no folder to write b.json into" in capsys.readouterr().err


def test_means_of_seeds_stand_beside_what_is_here():
    results = {"top1": [0.9, 0.8], "top1_interval95": [0.7, 0.95], "num_pictures": 100}
    assert report._accuracy(results) == "90.00% (82.56% – 94.48%, 100); mean of 2 seeds 85.00%"


def test_wilson_interval_against_a_table():
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263.
    assert evaluate.wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_readme_and_cards_equal_what_the_json_gives():
    text = (report.ROOT / "README.md").read_text()
    assert text.split(report.BEGIN)[1].split(report.END)[0].strip() == report.models_table().strip()
    for folder, results in report._measured():
        assert (folder / "README.md").read_text() == report.card_of(folder, results)
