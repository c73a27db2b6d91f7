import pytest
import torch
from test_train import arguments, assert_refused, checkpoint

import msr_zoo
import train
from msr_zoo.hub import save_pretrained
from teacher import TEMPERATURE, Teacher, distillation


def test_distillation_is_the_divergence_of_softened_answers():
    torch.manual_seed(0)
    answers, taught = 5 * torch.randn(3, 4, 6), 5 * torch.randn(4, 6)
    total = 0.0
    for step in answers.double():
        for logits, teacher in zip(step, taught.double(), strict=True):
            learned, soft = (torch.softmax(x / TEMPERATURE, 0) for x in (logits, teacher))
            total += float((soft * (soft / learned).log()).sum())
    expected = TEMPERATURE**2 * total / 12
    assert float(distillation(answers, taught)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation(taught[None], taught)) == pytest.approx(0, abs=1e-6)


@pytest.fixture
def stubborn(tmp_path):
    """The weights folder of a teacher that takes every picture for a dark one."""
    teacher = msr_zoo.create_model("resnet_twin20", num_classes=2)
    torch.nn.init.zeros_(teacher.fc.weight)
    teacher.fc.bias.data = torch.tensor([-9.0, 9.0])
    teacher.pretrained_cfg["label_names"] = ["bright", "dark"]
    save_pretrained(teacher, tmp_path / "teacher", card="A teacher of a test.")
    return f"local-dir:{tmp_path / 'teacher'}"


@pytest.mark.parametrize(("weight", "top1"), [("1", 0.5), ("0", 1.0)])
def test_network_learns_what_its_teacher_says(pictures, stubborn, tmp_path, weight, top1):
    options = ("--teacher", stubborn, "--teacher-weight", weight, "--schedule", "1x1@12 3x2")
    train.main(arguments(pictures, tmp_path / "run", *options))
    assert checkpoint(tmp_path / "run")["history"][-1]["top1"] == top1


def test_teacher_of_something_else_is_refused(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    cifar10 = ("--teacher", "msresnet20.cifar10")
    assert_refused(capsys, "does not know the classes ('bright', 'dark')", pictures, out, *cifar10)
    assert_refused(capsys, "msresnet7", pictures, out, "--teacher", "msresnet7")
    assert_refused(capsys, "between 0 and 1, got 2.0", pictures, out, "--teacher-weight", "2")
    assert not out.exists()


def test_teacher_must_take_the_same_pictures(stubborn):
    cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.2470, 0.2435, 0.2616)}
    with pytest.raises(ValueError, match=r"of mean .*, the model \(0.5, 0.5, 0.5\)"):
        Teacher(stubborn, cfg, ("bright", "dark"), torch.device("cpu"))
