import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from timm.utils import ModelEmaV3

import msr_zoo
import train
from data import open_split
from recipes import PAPER_CIFAR10, Recipe

SCRIPT = Path(train.__file__)


def arguments(pictures, out, *more):
    return [
        "cifar10-two-cores", "--data", str(pictures), "--out", str(out), "--batch-size", "8",
        "--schedule", "1x1 1x2", "--warmup-epochs", "0.5", *more,
    ]  # fmt: skip


def checkpoint(out):
    return torch.load(out / "last.pt", weights_only=True)


def test_run_learns_and_says_how_it_was_made(pictures, tmp_path):
    train.main(arguments(pictures, tmp_path / "run", "--schedule", "1x1@12 3x2"))
    saved = checkpoint(tmp_path / "run")
    assert saved["step"] == 4 * 6  # 48 pictures in batches of 8
    assert [epoch["T"] for epoch in saved["history"]] == [1, 2, 2, 2]
    assert saved["history"][-1]["top1"] == 1.0
    assert saved["recipe"]["data"] == str(pictures)
    assert saved["provenance"]["torch"] == str(torch.__version__)
    assert saved["classes"] == ("bright", "dark")
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


@pytest.mark.parametrize(
    "options",
    [(), ("--ema-decay", "0.9", "--tet", "true", "--cutout", "4", "--randaugment", "9")],
    ids=["plain", "all"],
)
def test_stopped_run_goes_on_batch_for_batch(pictures, tmp_path, options):
    train.main(arguments(pictures, tmp_path / "whole", *options))
    for _ in range(3):  # 12 steps in parts of 5
        train.main(arguments(pictures, tmp_path / "parts", *options, "--max-steps", "5"))
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole["step"] == parts["step"]
    for which in ("model", "unaveraged") if options else ("model",):
        for key, value in whole[which].items():
            assert torch.equal(value, parts[which][key]), key
    for epoch, same in zip(whole["history"], parts["history"], strict=True):
        assert {**epoch, "seconds": 0} == {**same, "seconds": 0}


def test_run_stopped_at_the_end_of_an_epoch_is_finished_by_the_next(pictures, tmp_path):
    train.main(arguments(pictures, tmp_path / "run", "--max-steps", "12"))
    assert len(checkpoint(tmp_path / "run")["history"]) == 1
    train.main(arguments(pictures, tmp_path / "run"))
    saved = checkpoint(tmp_path / "run")
    assert saved["step"] == 12
    assert [epoch["epoch"] for epoch in saved["history"]] == [1, 2]


def test_parts_that_other_commits_trained_are_told(pictures, tmp_path, monkeypatch):
    made = train.provenance
    for commit, steps in zip("aabc", (3, 3, 3, 9), strict=True):
        monkeypatch.setattr(train, "provenance", lambda *a, c=commit: {**made(*a), "commit": c})
        train.main(arguments(pictures, tmp_path / "run", "--max-steps", str(steps)))
    saved = checkpoint(tmp_path / "run")
    assert [part["commit"] for part in saved["earlier"]] == ["a", "b"]
    assert saved["provenance"]["commit"] == "c"
    # A run that has ended is not another commit's because that looked at it.
    monkeypatch.setattr(train, "provenance", lambda *a: {**made(*a), "commit": "d"})
    train.main(arguments(pictures, tmp_path / "run"))
    assert checkpoint(tmp_path / "run")["provenance"]["commit"] == "c"


def test_mean_of_the_weights_is_measured_and_kept(pictures, tmp_path, monkeypatch):
    weights, measured = [], []
    update, evaluate = ModelEmaV3.update, train.evaluate

    def watched(average, model, step):
        weights.append({k: v.double().clone() for k, v in model.state_dict().items()})
        update(average, model, step)

    def seen(model, *given):
        measured.append({k: v.clone() for k, v in model.state_dict().items()})
        return evaluate(model, *given)

    monkeypatch.setattr(ModelEmaV3, "update", watched)
    monkeypatch.setattr(train, "evaluate", seen)
    options = ("--ema-decay", "0.6", "--precision", "float32")
    train.main(arguments(pictures, tmp_path / "run", *options))
    saved = checkpoint(tmp_path / "run")
    assert len(weights) == 12
    for key, value in saved["model"].items():
        mean = weights[0][key]
        for number, new in enumerate(weights[1:], start=1):
            decay = min(
                0.6, 1 - (1 + number) ** (-2 / 3)
            )  # no longer a memory than there are steps
            mean = decay * mean + (1 - decay) * new[key]
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), mean, rtol=1e-4, atol=1e-6, msg=key)
        assert torch.equal(value, measured[-1][key])
        assert torch.equal(saved["unaveraged"][key], weights[-1][key].to(value.dtype))


def assert_refused(capsys, sentence, *given):
    with pytest.raises(SystemExit) as error:
        train.main(arguments(*given))
    assert error.value.code == 2
    assert sentence in capsys.readouterr().err


def test_other_recipe_does_not_overwrite_a_run(pictures, tmp_path, capsys):
    train.main(arguments(pictures, tmp_path / "run", "--max-steps", "1"))
    assert_refused(capsys, "made by another recipe", pictures, tmp_path / "run", "--lr", "0.3")


def test_checkpoint_from_before_a_field_of_the_recipe_goes_on(pictures, tmp_path):
    out = tmp_path / "run"
    train.main(arguments(pictures, out, "--max-steps", "1"))
    saved = checkpoint(out)
    for field in ("ema_decay", "tet", "cutout", "randaugment"):
        del saved["recipe"][field]
    del saved["unaveraged"], saved["seconds"]
    torch.save(saved, out / "last.pt")
    train.main(arguments(pictures, out, "--max-steps", "1"))
    assert checkpoint(out)["step"] == 2


def test_checkpoint_of_a_recipe_with_more_fields_is_refused(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    train.main(arguments(pictures, out, "--max-steps", "1"))
    saved = checkpoint(out)
    saved["recipe"]["to_come"] = 1
    torch.save(saved, out / "last.pt")
    assert_refused(capsys, "made by another recipe", pictures, out)


def test_bad_input_is_one_sentence_and_status_2(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    assert_refused(capsys, "invalid float value", pictures, out, "--lr", "fast")
    assert_refused(capsys, "no data at", tmp_path / "nowhere", out)
    assert_refused(capsys, "no pictures under train/<class>/", pictures / "test", out)
    assert_refused(capsys, "fewer than a batch of 64", pictures, out, "--batch-size", "64")
    assert_refused(capsys, "got '3x'", pictures, out, "--schedule", "1x1 3x")
    assert_refused(capsys, "got ''", pictures, out, "--schedule", "")
    assert_refused(capsys, "crop of 64 px is larger", pictures, out, "--schedule", "1x1@64")
    assert_refused(capsys, "sgd or muon, got 'adam'", pictures, out, "--optimizer", "adam")
    assert_refused(capsys, "bfloat16, got 'half'", pictures, out, "--precision", "half")
    penalty = ("--rate-penalty", "1", "--model", "resnet_twin20")
    assert_refused(capsys, "the model has no neuron", pictures, out, *penalty)
    decay = ("--decay", "0.5", "--model", "resnet_twin20")
    assert_refused(capsys, "resnet_twin20 has none", pictures, out, *decay)
    assert_refused(capsys, "less than 1, got 1.0", pictures, out, "--ema-decay", "1")
    assert_refused(capsys, "at least 0 pixels, got -1", pictures, out, "--cutout", "-1")
    assert_refused(capsys, "between 0 and 30, got 31", pictures, out, "--randaugment", "31")
    for name, value in (
        ("batch-size", "0"), ("lr", "-1"), ("lr", "nan"), ("weight-decay", "-1"),
        ("crop-padding", "-1"), ("rate-penalty", "-1"), ("label-smoothing", "1.5"),
    ):  # fmt: skip
        told = f"{name.replace('-', '_')} must be at least"
        assert_refused(capsys, told, pictures, out, f"--{name}={value}")
    # A cosine of no epochs has no value.
    assert_refused(capsys, "fewer than the 2 of", pictures, out, "--warmup-epochs", "2")
    (pictures.parent / "no.tar").write_text("no archive")
    assert_refused(capsys, "no.tar is no whole tar archive", pictures.parent / "no.tar", out)
    shutil.rmtree(pictures / "test" / "bright")
    assert_refused(capsys, "test ('dark',)", pictures, out)
    assert not out.exists()


def test_training_accuracy_is_that_of_every_batch_as_it_passed(pictures, tmp_path):
    options = ("--lr", "0", "--precision", "float32", "--schedule", "2x2")
    train.main(arguments(pictures, tmp_path / "run", *options, "--max-steps", "2"))
    train.main(arguments(pictures, tmp_path / "run", *options))
    saved = checkpoint(tmp_path / "run")
    model = msr_zoo.create_model("msresnet20", num_steps=2, num_classes=2).train()
    model.load_state_dict(saved["model"])  # a learning rate of 0 left the weights as they were
    recipe = Recipe(**saved["recipe"])
    batches = open_split(recipe, model.pretrained_cfg, train=True, device=torch.device("cpu"))
    for epoch, told in enumerate(saved["history"]):
        with torch.inference_mode():
            right = [(model(x).argmax(1) == y).sum().item() for x, y in batches.epoch(epoch)]
        assert told["train_top1"] == pytest.approx(sum(right) / 48)


@pytest.mark.slow
def test_two_processes_train_what_one_does(pictures, tmp_path):
    # Two steps: later ones differ as rounding flips a spike here and there. Muon divides a gradient
    # by its size, so that it would make much of what rounding leaves of none.
    options = ("--precision", "float32", "--max-steps", "2", "--optimizer", "sgd")
    train.main(arguments(pictures, tmp_path / "one", *options))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(SCRIPT), *arguments(pictures, tmp_path / "two", *options)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    for key, value in one["model"].items():
        torch.testing.assert_close(value, two["model"][key], rtol=1e-3, atol=1e-5, msg=key)
    # Loss and accuracy are those of all pictures, not of the first process's.
    assert two["so_far"] == pytest.approx(one["so_far"], rel=1e-3)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
@pytest.mark.slow
def test_killed_run_goes_on_batch_for_batch(pictures, tmp_path, name):
    train.main(arguments(pictures, tmp_path / "whole"))
    command = [sys.executable, str(SCRIPT), *arguments(pictures, tmp_path / "killed")]
    command += ["--save-every", "0"]
    process = subprocess.Popen(command, env=os.environ)
    while not (tmp_path / "killed" / "last.pt").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    status = process.wait(timeout=60)
    assert status == (0 if name == "SIGTERM" else -signal.SIGKILL)
    subprocess.run(command, check=True, env=os.environ)
    whole, killed = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "killed")
    for key, value in whole["model"].items():
        assert torch.equal(value, killed["model"][key]), key


@pytest.mark.slow
def test_processes_stop_together_and_go_on_from_what_the_first_one_saved(
    pictures, tmp_path, start_two
):
    # Each has a disk of its own, and only the second one is told to stop.
    given = ("--precision", "float32", "--optimizer", "sgd", "--schedule", "20x1")
    first, second = (
        [SCRIPT, *arguments(pictures, tmp_path / name, *given)] for name in ("first", "second")
    )
    late = start_two(first, [*second, "--max-minutes", "1e-9"])
    assert [process.wait(timeout=300) for process in late] == [0, 0]
    assert checkpoint(tmp_path / "first")["step"] == 1
    assert not (tmp_path / "second" / "last.pt").exists()

    told = start_two([*first, "--save-every", "0"], second)
    while checkpoint(tmp_path / "first")["step"] < 3:
        assert told[1].poll() is None, "the run ended before it could be told to stop"
        time.sleep(0.01)
    told[1].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=300) for process in told] == [0, 0]
    reached = checkpoint(tmp_path / "first")["step"]
    assert 3 <= reached < 120

    more = ("--max-steps", "6")
    rest = start_two([*first, *more], [*second, *more])
    assert [process.wait(timeout=300) for process in rest] == [0, 0]
    saved = checkpoint(tmp_path / "first")
    assert saved["step"] == reached + 6
    assert len(saved["history"]) == (reached + 5) // 6


def test_run_ended_while_it_evaluates_is_evaluated_when_it_goes_on(pictures, tmp_path, monkeypatch):
    train.main(arguments(pictures, tmp_path / "whole"))
    evaluate = train.evaluate

    def ended(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*given)

    monkeypatch.setattr(train, "evaluate", ended)
    train.main(arguments(pictures, tmp_path / "ended"))
    saved = checkpoint(tmp_path / "ended")
    assert (saved["step"], saved["history"]) == (6, [])
    trained = saved["seconds"]
    monkeypatch.setattr(train, "evaluate", evaluate)
    train.main(arguments(pictures, tmp_path / "ended"))
    whole, ended = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "ended")
    assert [{**epoch, "seconds": 0} for epoch in whole["history"]] == [
        {**epoch, "seconds": 0} for epoch in ended["history"]
    ]

    assert ended["history"][0]["seconds"] > trained > 0

    # What a kill leaves behind is there before the evaluation begins.
    def killed(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        train.main(arguments(pictures, tmp_path / "killed"))
    assert checkpoint(tmp_path / "killed")["step"] == 6


def test_learning_rate_warms_up_and_ends_at_zero():
    recipe = dataclasses.replace(PAPER_CIFAR10, warmup_epochs=2.0, schedule="10x6")
    rates = [train.learning_rate(recipe, e) for e in (0, 1, 2, 6, 10)]
    assert rates[0] == pytest.approx(0.0005)
    assert rates[1] == pytest.approx(0.0505)
    assert rates[2:] == pytest.approx([0.1, 0.05, 0.0])


def test_phases_follow_one_another():
    recipe = dataclasses.replace(PAPER_CIFAR10, schedule="2x1@24 1x1 3x4")
    phases = [recipe.phase(epoch) for epoch in range(recipe.epochs)]
    assert [phase.num_steps for phase in phases] == [1, 1, 1, 4, 4, 4]
    assert [phase.size for phase in phases] == [24, 24, None, None, None, None]
    assert recipe.num_steps == 4


def test_run_ends_at_its_minutes_and_goes_on(pictures, tmp_path):
    train.main(arguments(pictures, tmp_path / "run", "--max-minutes", "1e-9"))
    assert checkpoint(tmp_path / "run")["step"] == 1
    train.main(arguments(pictures, tmp_path / "run"))
    assert checkpoint(tmp_path / "run")["step"] == 12


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_only_matrices_decay(pictures, tmp_path, optimizer):
    out = tmp_path / "run"
    train.main(arguments(pictures, out, "--optimizer", optimizer, "--max-steps", "1"))
    groups = checkpoint(out)["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.05, 0.05]
    # Vectors and the head take Muon's fallback; 21 convolutions do not.
    assert [group["use_fallback"] for group in groups] == [True, True, False]
    assert len(groups[2]["params"]) == 21


def test_rate_penalty_silences_neurons(pictures, tmp_path):
    rates = []
    for weight in ("0", "20"):
        out = tmp_path / weight
        train.main(arguments(pictures, out, "--rate-penalty", weight, "--schedule", "6x1"))
        model = msr_zoo.create_model("msresnet20", num_classes=2, num_steps=1)
        model.load_state_dict(checkpoint(out)["model"])
        with torch.no_grad(), msr_zoo.record_activity(model.eval()) as activity:
            model(torch.randn(8, 3, 16, 16))
        rates.append(activity.spikes_per_neuron)
    assert rates[1] < 0.7 * rates[0]


def test_history_is_printed_as_json_lines(pictures, tmp_path, capsys):
    train.main(arguments(pictures, tmp_path / "run"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
