import json
import os
import signal
import sys

import pytest

import train
from studies import ablations
from studies.ablations import Group

START = [
    "cifar10-two-cores", "--schedule", "2x1@12", "--batch-size", "8", "--warmup-epochs", "0.5",
]  # fmt: skip


@pytest.fixture
def small(pictures, tmp_path, monkeypatch):
    """The study's options for small pictures; two of its groups are left."""
    early = {
        "SGD": ablations.GROUPS["early"].changes["SGD"],
        "half the epochs at T 2": ["--schedule", "1x2@12"],
    }
    late = {
        name: ablations.GROUPS["late"].changes[name]
        for name in ("label smoothing 0.1", "RandAugment of magnitude 5")
    }
    groups = {"early": Group(START, early), "late": Group(START, late)}
    monkeypatch.setattr(ablations, "GROUPS", groups)
    return ["--data", str(pictures), "--out", str(tmp_path / "study.json")], tmp_path


def study(monkeypatch, folder, *arguments):
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--runs", str(folder / "runs"), *arguments])
    ablations.main()


def test_runs_differ_in_what_they_say(small, monkeypatch, capsys):
    options, folder = small
    study(monkeypatch, folder, *options, "--seeds", "3", "5")
    results = json.loads((folder / "study.json").read_text())
    assert (results["seeds"], results["n"]) == ([3, 5], 2)
    assert {"command", "commit", "device", "torch"} <= set(results)
    rows = results["rows"]
    assert [row["recipe"]["seed"] for row in rows] == [3, 5] * 4
    for key, values in {
        "optimizer": ["sgd", "muon", "muon", "muon"],
        "label_smoothing": [0.0, 0.0, 0.1, 0.0],
        "randaugment": [0, 0, 0, 5],
        "schedule": ["2x1@12", "1x2@12", "2x1@12", "2x1@12"],
    }.items():
        assert [row["recipe"][key] for row in rows[::2]] == values
    assert all(0 <= row["top1"] <= 1 and row["seconds"] > 0 for row in rows)
    mean = 50 * (rows[2]["top1"] + rows[3]["top1"])
    assert f"| half the epochs at T 2 | 2 | {mean:.2f}% |" in capsys.readouterr().out


def test_chosen_runs_alone_are_made(small, monkeypatch):
    options, folder = small
    study(monkeypatch, folder, *options, "--groups", "late", "--changes", "label smoothing 0.1")
    rows = json.loads((folder / "study.json").read_text())["rows"]
    assert [(row["group"], row["change"]) for row in rows] == [("late", "label smoothing 0.1")]


def test_rows_of_other_weights_are_not_kept_beside(small, monkeypatch):
    options, folder = small
    file = folder / "study.json"
    weights = ["--model", ablations.WEIGHTS, "--pretrained", "true"]
    late = ablations.GROUPS["late"]
    monkeypatch.setitem(ablations.GROUPS, "late", Group([*late.start, *weights], late.changes))
    study(monkeypatch, folder, *options, "--changes", "label smoothing 0.1", "SGD")
    results = json.loads(file.read_text())
    digest = ablations.TAGS[ablations.WEIGHTS].sha256
    assert [row["weights_sha256"] for row in results["rows"]] == [None, digest]
    results["rows"][1]["weights_sha256"] = "former"
    file.write_text(json.dumps(results))
    study(monkeypatch, folder, *options, "--changes", "RandAugment of magnitude 5")
    rows = json.loads(file.read_text())["rows"]
    assert [row["change"] for row in rows] == ["SGD", "RandAugment of magnitude 5"]


def test_rows_stay_until_they_are_made_anew(small, monkeypatch, capsys):
    options, folder = small
    file = folder / "study.json"
    study(monkeypatch, folder, *options, "--groups", "late")
    results = json.loads(file.read_text())
    for row in results["rows"]:
        row["top1"] = -1
    file.write_text(json.dumps(results))
    study(monkeypatch, folder, *options, "--changes", "SGD", "RandAugment of magnitude 5")
    rows = json.loads(file.read_text())["rows"]
    assert [(row["change"], row["top1"] == -1) for row in rows] == [
        ("SGD", False), ("label smoothing 0.1", True), ("RandAugment of magnitude 5", False),
    ]  # fmt: skip
    with pytest.raises(SystemExit) as error:
        study(monkeypatch, folder, *options, "--lr", "0.1")
    assert error.value.code == 2
    assert "another recipe; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["before", "after"])
def test_study_told_to_end_ends_after_the_run_that_is_going(small, monkeypatch, capsys, moment):
    options, folder = small
    evaluate = train.evaluate

    def told(*given):
        """Be told just before an evaluation or, when nothing of the run is left to do, after."""
        if moment == "before":
            os.kill(os.getpid(), signal.SIGTERM)
        accuracy = evaluate(*given)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGTERM)
        return accuracy

    monkeypatch.setattr(train, "evaluate", told)
    # Of one epoch, so that the run ends with that evaluation.
    study(monkeypatch, folder, *options, "--changes", "half the epochs at T 2")
    assert "stopped; the same command goes on" in capsys.readouterr().out
    assert not (folder / "study.json").exists()
    monkeypatch.setattr(train, "evaluate", evaluate)
    study(monkeypatch, folder, *options, "--changes", "half the epochs at T 2")
    assert len(json.loads((folder / "study.json").read_text())["rows"]) == 1


def test_readme_has_the_tables_of_the_results():
    rows = json.loads((ablations.RESULTS / "ablations.json").read_text())["rows"]
    readme = (ablations.RESULTS.parent / "README.md").read_text()
    for line in ablations.table(rows):
        assert f"{line}\n" in readme
