"""Every command that training/README.md leaves to a GPU, tried on a CPU with a few pictures."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
README = (ROOT / "training" / "README.md").read_text()
BLOCKS = [
    [shlex.split(line) for line in block.splitlines()]
    for block in re.findall(r"```sh gpu\n(.*?)```", README, re.DOTALL)
]
# What cuts a script down; an option that is given twice has its last value.
SMALLER = {
    "training/studies/degradation.py": [
        "--depths", "20", "--schedule", "1x1", "--batch-size", "24", "--warmup-epochs", "0.5",
    ],
    "benchmarks.step_share": ["--cases", "msresnet20:32:2:1", "--rounds", "2", "--device", "cpu"],
    "benchmarks.imagenet_epoch": [
        "--models", "msresnet18", "--batch", "1", "--num-steps", "1", "--rounds", "1",
        "--device", "cpu",
    ],
    "benchmarks.speed": ["--device", "cpu", "--quick"],
}  # fmt: skip


def run(script, arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # or train.py would start this whole program again
    runpy.run_path(str(ROOT / script), run_name="__main__")


def moved(words, folder):
    """Paths of runs and weights in another folder."""
    places = ("runs/", "hub/", "msr_zoo/weights/")
    return [folder / word if word.startswith(places) else word for word in words]


def test_commands_name_scripts_that_exist_and_are_cut_to_ten_minutes():
    assert len(BLOCKS) >= 8
    exported = []
    for command in (command for block in BLOCKS for command in block):
        assert command[0] == "python"
        module = command[2].replace(".", "/") + ".py" if command[1] == "-m" else command[1]
        assert (ROOT / module).exists()
        if "train.py" in module or "degradation" in module:
            assert float(command[command.index("--max-minutes") + 1]) <= 9.5
        if "export.py" in module:
            exported.append(command[-1])
            # It refuses a folder that is there, after ten minutes of training.
            assert ("--replace" in command) == (ROOT / command[-1]).is_dir()
        if "evaluate.py" in module:
            assert command[2] == exported[-1]
    assert len(set(exported)) == len(exported) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_commands_run(block, pictures, tmp_path, monkeypatch):
    for command in block:
        script, words = (
            (command[2], command[3:]) if command[1] == "-m" else (command[1], command[2:])
        )
        data = ["--data", pictures]
        if script == "training/train.py":
            words = moved(words, tmp_path)
            # As it is written, for a step; then to its end, because an export follows.
            once = ["--max-steps", "1", "--batch-size", "4", "--out", tmp_path / "once"]
            shutil.rmtree(tmp_path / "once", ignore_errors=True)
            run(script, [*words, *data, *once], monkeypatch)
            ended = ["--schedule", "1x1", "--batch-size", "16", "--warmup-epochs", "0.1"]
            run(script, [*words, *data, *ended], monkeypatch)
        elif script == "training/export.py":
            run(script, moved(words, tmp_path), monkeypatch)
        elif script == "training/evaluate.py":
            run(script, [*moved(words, tmp_path), *data], monkeypatch)
            assert (moved(words, tmp_path)[0] / "results.json").exists()
        elif script.startswith("training/studies/"):
            out = tmp_path / "results" / "study.json"
            words = [*words, *SMALLER[script], *data, "--out", out]
            if "degradation" in script:
                words += ["--runs", tmp_path / "runs"]
            run(script, words, monkeypatch)
            assert out.with_suffix(".svg").exists()
        else:
            if script == "benchmarks.speed":
                pytest.importorskip("spikingjelly")
            # An absolute path in place of a name in benchmarks/results.
            command = [sys.executable, *command[1:], *SMALLER[script], "--out", tmp_path / "result"]
            subprocess.run([*map(str, command)], cwd=ROOT, check=True)
            assert (tmp_path / "result.json").exists() == ("speed" not in script)
            (tmp_path / "result.json").unlink(missing_ok=True)
    torch.set_grad_enabled(True)
