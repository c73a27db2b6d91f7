"""The decay as a parameter: its gradient, its way through a run, and what is exported of it."""

import json
import sys

import pytest
import torch
from test_train import arguments, assert_refused, checkpoint

import export
import msr_zoo
import train
from learned_decay import LearnedDecay
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.neurons import LIF


def small(**kwargs) -> MSResNet:
    torch.manual_seed(0)
    shape = {"depths": (1, 1), "channels": (16, 32), "stem": "3x3", "num_classes": 2}
    return MSResNet(**{**shape, "num_steps": 3, "zero_init_last": False, **kwargs})


def test_the_first_answer_is_that_of_the_constant():
    model, twin = small(decay=0.4).eval(), small(decay=0.4).eval()
    decay = LearnedDecay(model)
    x = torch.randn(2, 3, 8, 8)
    assert decay().item() == pytest.approx(0.4)
    torch.testing.assert_close(model(x), twin(x))
    with torch.no_grad():
        torch.testing.assert_close(model(x), twin(x))
    assert model.state_dict().keys() == twin.state_dict().keys()


def test_the_gradient_is_that_of_the_equation():
    # u_1 = x_1 stays under the threshold, u_2 = d * u_1 + x_2 lies in the window: du_2 / dd = u_1.
    network = torch.nn.Sequential(LIF())
    decay = LearnedDecay(network)
    current = torch.tensor([[0.4], [0.3]])
    network(current)[1].sum().backward()
    d = decay().item()
    assert decay.raw.grad.item() == pytest.approx(0.4 * d * (1 - d))


def test_one_step_has_no_past_and_leaves_the_decay():
    network = torch.nn.Sequential(LIF())
    decay = LearnedDecay(network)
    network(torch.tensor([[0.4]])).sum().backward()
    assert decay.raw.grad.item() == 0.0


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_what_a_sigmoid_cannot_give_is_refused(constant):
    with pytest.raises(ValueError, match="between 0 and 1"):
        LearnedDecay(small(decay=constant))


def test_a_run_learns_it_goes_on_and_exports_it(pictures, tmp_path, monkeypatch):
    options = ("--decay", "0.5", "--learned-decay", "true", "--schedule", "2x3", "--lr", "0.05")
    train.main(arguments(pictures, tmp_path / "whole", *options))
    for _ in range(3):
        train.main(arguments(pictures, tmp_path / "parts", *options, "--max-steps", "5"))
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole["learned_decay"] == parts["learned_decay"]
    learned = whole["history"][-1]["decay"]
    assert 0 < learned < 1
    assert abs(learned - 0.5) > 1e-4
    monkeypatch.setattr(
        sys, "argv", ["export.py", str(tmp_path / "whole"), "--out", str(tmp_path / "weights")]
    )
    export.main()
    model = msr_zoo.create_model(f"local-dir:{tmp_path / 'weights'}", pretrained=True)
    assert model.decay == learned
    assert {m.decay for m in model.modules() if isinstance(m, LIF)} == {learned}
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert config["model_args"]["decay"] == learned


def test_a_fixed_decay_is_the_models_and_stays(pictures, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train.main(arguments(pictures, out, "--decay", "0.75", "--max-steps", "12"))
    train.main(arguments(pictures, out, "--decay", "0.75"))
    monkeypatch.setattr(sys, "argv", ["export.py", str(out), "--out", str(tmp_path / "weights")])
    export.main()
    folder = f"local-dir:{tmp_path / 'weights'}"
    assert msr_zoo.create_model(folder, pretrained=True).decay == 0.75
    # On from these weights, the decay is theirs.
    on = ("--model", folder, "--pretrained", "true", "--schedule", "1x1")
    train.main(arguments(pictures, tmp_path / "on", *on))
    monkeypatch.setattr(
        sys, "argv", ["export.py", str(tmp_path / "on"), "--out", str(tmp_path / "second")]
    )
    export.main()
    folder = f"local-dir:{tmp_path / 'second'}"
    assert msr_zoo.create_model(folder, pretrained=True).decay == 0.75


def test_bad_values_are_one_sentence(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    learned = ("--learned-decay", "true")
    assert_refused(capsys, "at most 1, got 1.5", pictures, out, "--decay", "1.5")
    assert_refused(capsys, "leave ema_decay at 0", pictures, out, *learned, "--ema-decay", "0.9")
    assert_refused(capsys, "has none", pictures, out, *learned, "--model", "resnet_twin20")
