"""The scripts that fine-tune several seeds and report their mean."""

import json
import sys
import tarfile

import numpy as np
import pytest
from events import writers

import finetune_weights
import report
from msr_zoo import finetune_loop
from msr_zoo.events import Events
from msr_zoo.finetune_report import accuracy
from studies import pretraining


@pytest.fixture
def case(tmp_path, monkeypatch):
    """A case of two sessions of a class on the left and one on the right, with small epochs."""
    monkeypatch.setattr(finetune_loop, "FEWEST", 64)
    rng = np.random.default_rng(0)
    for session in ("a", "b"):
        for right, name in enumerate(("left", "wide")):
            (tmp_path / "sides" / session / name).mkdir(parents=True)
            n = 4000
            events = Events(
                x=rng.integers(0, 8 + 56 * right, n, dtype=np.int16),
                y=rng.integers(0, 64, n, dtype=np.int16),
                t=np.sort(rng.integers(0, 4_000_000, n)),
                polarity=rng.random(n) < 0.5,
                width=64,
                height=64,
            )
            (tmp_path / "sides" / session / name / "take.npz").write_bytes(writers.npz(events))
    with tarfile.open(tmp_path / "sides.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "sides", "sides")
    monkeypatch.setenv("MSR_ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(finetune_weights, "WHEEL", tmp_path / "wheel")
    monkeypatch.setattr(finetune_weights, "RESULTS", tmp_path)
    options = {"pretrained": False, "changes": {"epochs": 1, "early_epochs": 0}}
    common = {"archive": "sides.tar.xz", "root": "sides", "data": "sides", "note": "made here"}
    cases = {
        "sides": finetune_weights.Case(**common, options=options, tag="msresnet20_dvs.sides"),
        "check": finetune_weights.Case(**common, options={**options, "test": "a"}),
    }
    monkeypatch.setattr(finetune_weights, "CASES", cases)
    monkeypatch.setattr(pretraining, "CASES", cases)
    return tmp_path


def test_seeds_are_merged_and_become_a_folder_with_a_card(case, monkeypatch):
    argv = ["sides", "--seeds", "3", "4", "--runs", str(case / "runs")]
    finetune_weights.main(argv)
    folder = case / "wheel" / "msresnet20_dvs.sides"
    results = json.loads((folder / "results.json").read_text())
    each = [json.loads((case / f"runs/sides-{s}/results.json").read_text()) for s in (3, 4)]
    assert results["top1"] == [each[0]["top1"][0], each[1]["top1"][0]]
    assert results["confusion"] == each[0]["confusion"]
    assert (results["seeds"], results["split"]) == ([3, 4], "the session b")
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (case / "runs/sides-3/model.safetensors").read_bytes()
    card = report.card_of(folder, results)
    assert f"| top-1 | {accuracy(results)}, mean of seeds 3, 4:" in card
    assert "made here" in card
    assert results["commit"][:12] in card
    # What is done is not done again.
    monkeypatch.setattr(finetune_weights.msr_zoo, "finetune", None)
    finetune_weights.main(argv)


def test_a_check_writes_results_alone(case):
    finetune_weights.main(["check", "--seeds", "0", "--runs", str(case / "runs")])
    results = json.loads((case / "finetune-check.json").read_text())
    assert results["split"] == "the session a"
    assert results["recipe"]["epochs"] == 1
    assert not (case / "wheel").exists()


def test_the_study_compares_starts(case, monkeypatch):
    calls = []
    finetune = finetune_weights.msr_zoo.finetune

    def watched(root, *, changes, **kwargs):
        calls.append((kwargs.get("model"), kwargs["pretrained"], changes))
        return finetune(root, changes={**changes, "early_epochs": 0}, **kwargs)

    monkeypatch.setattr(finetune_weights.msr_zoo, "finetune", watched)
    out = case / "pretraining.json"
    argv = ["sides", "--seeds", "0", "--epochs", "1", "--runs", str(case / "p"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["pretraining.py", *argv])
    pretraining.main()
    runs = json.loads(out.read_text())["runs"]
    assert [(run["start"], run["epochs"]) for run in runs] == [("pretrained", 1), ("scratch", 1)]
    weights = "msresnet20_dvs.cifar10_events"
    assert calls == [(weights, True, {"epochs": 1}), (None, False, {"epochs": 1})]
    assert [run["model"] for run in runs] == [weights, "msresnet20_dvs"]
    assert all(run["mean"] == run["top1"][0] for run in runs)
