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

import msr_zoo
import train
from data import open_split
from recipes import PAPER_CIFAR10, Recipe

SCRIPT = Path(train.__file__)


def arguments(pictures, out, *more):
    return [
        "cifar10-two-cores", "--data", str(pictures), "--out", str(out), "--batch-size", "8",
        "--epochs", "2", "--early-epochs", "1", "--num-steps", "2", "--warmup-epochs", "0.5",
        *more,
    ]  # fmt: skip


def checkpoint(out):
    return torch.load(out / "last.pt", weights_only=True)


def test_run_learns_and_says_how_it_was_made(pictures, tmp_path):
    train.main(arguments(pictures, tmp_path / "run", "--epochs", "4"))
    saved = checkpoint(tmp_path / "run")
    assert saved["step"] == 4 * 6  # 48 pictures in batches of 8
    assert [epoch["T"] for epoch in saved["history"]] == [1, 2, 2, 2]
    assert saved["history"][-1]["top1"] == 1.0
    assert saved["recipe"]["data"] == str(pictures)
    assert saved["provenance"]["torch"] == str(torch.__version__)
    assert saved["classes"] == ("bright", "dark")
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


def test_stopped_run_goes_on_batch_for_batch(pictures, tmp_path):
    train.main(arguments(pictures, tmp_path / "whole"))
    for _ in range(3):  # 12 steps in parts of 5
        train.main(arguments(pictures, tmp_path / "parts", "--max-steps", "5"))
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole["step"] == parts["step"]
    for key, value in whole["model"].items():
        assert torch.equal(value, parts["model"][key]), key
    for epoch, same in zip(whole["history"], parts["history"], strict=True):
        assert {**epoch, "seconds": 0} == {**same, "seconds": 0}


def test_run_stopped_at_the_end_of_an_epoch_is_finished_by_the_next(pictures, tmp_path):
    train.main(arguments(pictures, tmp_path / "run", "--max-steps", "12"))
    assert len(checkpoint(tmp_path / "run")["history"]) == 1
    train.main(arguments(pictures, tmp_path / "run"))
    saved = checkpoint(tmp_path / "run")
    assert saved["step"] == 12
    assert [epoch["epoch"] for epoch in saved["history"]] == [1, 2]


def assert_refused(capsys, sentence, *given):
    with pytest.raises(SystemExit) as error:
        train.main(arguments(*given))
    assert error.value.code == 2
    assert sentence in capsys.readouterr().err


def test_other_recipe_does_not_overwrite_a_run(pictures, tmp_path, capsys):
    train.main(arguments(pictures, tmp_path / "run", "--max-steps", "1"))
    assert_refused(capsys, "made by another recipe", pictures, tmp_path / "run", "--lr", "0.3")


def test_bad_input_is_one_sentence_and_status_2(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    assert_refused(capsys, "invalid float value", pictures, out, "--lr", "fast")
    assert_refused(capsys, "no data at", tmp_path / "nowhere", out)
    assert_refused(capsys, "no pictures under train/<class>/", pictures / "test", out)
    assert_refused(capsys, "fewer than a batch of 64", pictures, out, "--batch-size", "64")
    assert_refused(capsys, "early_epochs must be fewer", pictures, out, "--early-epochs", "2")
    shutil.rmtree(pictures / "test" / "bright")
    assert_refused(capsys, "test ('dark',)", pictures, out)
    assert not out.exists()


def test_training_accuracy_is_that_of_every_batch_as_it_passed(pictures, tmp_path):
    options = ("--lr", "0", "--precision", "float32", "--early-num-steps", "2")
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
    # Two steps: later ones differ as rounding flips a spike here and there.
    options = ("--precision", "float32", "--max-steps", "2")
    train.main(arguments(pictures, tmp_path / "one", *options))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(SCRIPT), *arguments(pictures, tmp_path / "two", *options)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    for key, value in one["model"].items():
        torch.testing.assert_close(value, two["model"][key], rtol=1e-3, atol=1e-5, msg=key)


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


def test_learning_rate_warms_up_and_ends_at_zero():
    recipe = Recipe(**{**vars(PAPER_CIFAR10), "warmup_epochs": 2.0, "epochs": 10})
    rates = [train.learning_rate(recipe, e) for e in (0, 1, 2, 6, 10)]
    assert rates[0] == pytest.approx(0.0005)
    assert rates[1] == pytest.approx(0.0505)
    assert rates[2:] == pytest.approx([0.1, 0.05, 0.0])


def test_history_is_printed_as_json_lines(pictures, tmp_path, capsys):
    train.main(arguments(pictures, tmp_path / "run"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
