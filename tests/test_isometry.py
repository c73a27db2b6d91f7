"""The estimator against Jacobians written out row by row, and against plain autograd."""

import itertools
import json

import pytest
import torch
from models.shrunk import KINDS, randomised, shrunk
from torch import nn

import msr_zoo_cli
from msr_zoo.isometry import mean_and_deviation, measure_isometry
from msr_zoo.models import ms_resnet
from msr_zoo.models.ms_resnet import MSBlock
from msr_zoo.models.rivals import SEWBlock, SpikingBlock, TwinBlock


def batch(model, size=8, pictures=2):
    generator = torch.Generator().manual_seed(3)
    dtype = next(model.parameters()).dtype
    images = torch.randn(pictures, model.in_chans, size, size, generator=generator, dtype=dtype)
    return images, torch.arange(pictures)


def batch_statistics(model):
    for module in model.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    return model


def explicit_jacobian(block, x):
    """J (m, n), a backward pass of the real operators for every row."""
    x = x.clone().requires_grad_()
    y = block(x, len(x))
    rows = []
    for basis in torch.eye(y.numel(), dtype=y.dtype):
        (row,) = torch.autograd.grad(y, x, basis.view_as(y), retain_graph=True)
        rows.append(row.flatten())
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("name", "kind", "index"),
    [
        ("msresnet20", MSBlock, 1),
        ("msresnet20", MSBlock, 2),
        ("spiking_resnet20", SpikingBlock, 0),
        ("sew_resnet20", SEWBlock, 2),
        ("resnet_twin20", TwinBlock, 1),
    ],
)
def test_moments_are_those_of_the_explicit_jacobian(name, kind, index):
    small = shrunk(name, channels=(2, 3, 4), num_steps=2)
    model = batch_statistics(randomised(small))
    images, labels = batch(model, size=4)
    seen = {}
    blocks = [b for stage in model.stages for b in model.get_submodule(stage)]
    blocks[index].register_forward_pre_hook(
        lambda _, args: seen.update(x=args[0].detach().expand(args[1], -1, -1, -1, -1))
    )
    model(images)
    assert type(blocks[index]) is kind
    measured = measure_isometry(model, images, labels, probes=120)[index]
    J = explicit_jacobian(blocks[index], seen["x"])
    assert (measured.outputs, measured.inputs) == tuple(J.shape)
    eigenvalues = torch.linalg.eigvalsh(J @ J.T)
    spread = float(eigenvalues.var(correction=0))
    assert 0 < measured.phi_error < 0.15 * measured.phi
    assert abs(measured.phi - float(eigenvalues.mean())) < 3 * measured.phi_error
    assert 0 < measured.spread_error < 0.5 * spread
    assert abs(measured.spread - spread) < 3 * measured.spread_error


def test_an_empty_branch_is_an_isometry_exactly():
    model = shrunk("msresnet20", depths=(2, 2, 2))
    blocks = measure_isometry(model, *batch(model), probes=3)
    assert [block.name for block in blocks] == [f"layer{s}.{i}" for s in (1, 2, 3) for i in (0, 1)]
    for block in blocks:
        # The first block of a later stage has a convolution on its shortcut.
        if block.name in ("layer2.0", "layer3.0"):
            assert block.phi != 1
            assert block.inputs != block.outputs
        else:
            assert (block.phi, block.phi_error) == (1, 0)
            assert (block.spread, block.spread_error) == (0, 0)
            assert block.gradient_ratio == 1
    assert blocks[-1].gradient_norm == 1


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_the_whole_network(name):
    model = batch_statistics(randomised(shrunk(name)))
    images, labels = batch(model, size=16 if "18" in name or "104" in name else 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measured = measure_isometry(model, images, labels, probes=2)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    seen = []
    hooks = [
        block.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
        for stage in model.stages
        for block in model.get_submodule(stage)
    ]
    loss = nn.functional.cross_entropy(model(images), labels)
    gradients = torch.autograd.grad(loss, [output for _, output in seen])
    norms = [float(g.norm()) for g in gradients]
    assert len(norms) == len(measured) == len(hooks)
    assert norms[0] > 0
    expected = [n / norms[-1] for n in norms]
    assert [b.gradient_norm for b in measured] == pytest.approx(expected)
    # What leaves a block enters the next one.
    expected = [a / b for a, b in itertools.pairwise(norms)]
    assert [b.gradient_ratio for b in measured[1:]] == pytest.approx(expected)


def test_first_block_takes_its_current_as_one_of_every_step():
    model = batch_statistics(randomised(shrunk("msresnet20")))
    images, labels = batch(model)
    block, seen = model.layer1[0], {}

    def expanded(_, args):
        seen["x"] = args[0].detach().repeat(args[1], 1, 1, 1, 1).requires_grad_()
        return seen["x"], args[1]

    block.register_forward_pre_hook(expanded)
    block.register_forward_hook(lambda _, args, output: seen.update(y=output))
    loss = nn.functional.cross_entropy(model(images), labels)
    into, out_of = torch.autograd.grad(loss, [seen["x"], seen["y"]])
    ratio = measure_isometry(model, images, labels, probes=2)[0].gradient_ratio
    assert ratio == pytest.approx(float(into.norm() / out_of.norm()))


def test_a_seed_gives_one_answer():
    model = shrunk("sew_resnet20")
    first, again = (measure_isometry(model, *batch(model), probes=2, seed=5) for _ in range(2))
    other = measure_isometry(model, *batch(model), probes=2, seed=6)
    assert first == again
    assert [b.phi for b in first] != [b.phi for b in other]
    assert [b.gradient_ratio for b in first] == [b.gradient_ratio for b in other]


def test_a_gradient_of_zero_has_no_ratio():
    model = shrunk("msresnet20")
    nn.init.zeros_(model.fc.weight)
    blocks = measure_isometry(model, *batch(model), probes=2)
    assert {b.gradient_ratio for b in blocks} == {b.gradient_norm for b in blocks} == {None}
    assert mean_and_deviation([None]) is None
    assert mean_and_deviation([1, None, 3]) == (2, 1)


def test_refuses():
    model = shrunk("msresnet20")
    with pytest.raises(ValueError, match="probes must be at least 2, got 1"):
        measure_isometry(model, *batch(model), probes=1)
    with pytest.raises(ValueError, match="got Linear"):
        measure_isometry(nn.Linear(2, 2), torch.zeros(1, 3, 8, 8), torch.zeros(1))


@pytest.fixture
def small(monkeypatch):
    """The networks of the command line, made small."""
    narrow = {"channels": (4, 6, 8), "num_steps": 2}
    monkeypatch.setattr(ms_resnet, "CIFAR", {**ms_resnet.CIFAR, **narrow})


def run(capsys, *argv):
    status = msr_zoo_cli.main(["isometry", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_command(capsys, small):
    status, out, err = run(capsys, "msresnet20", "--probes", "2")
    assert (status, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= 80
    rows = [line.split() for line in out.split("\n\n")[0].splitlines()]
    assert rows[0] == ["BLOCK", "PHI", "+-", "SPREAD", "+-", "RATIO", "NORM"]
    assert rows[1][:6] == ["layer1.0", "1", "0", "0", "0", "1"]
    assert [row[0] for row in rows[-3:]] == ["layer3.2", "mean", "deviation"]
    status, out, _ = run(capsys, "msresnet20", "--probes", "2", "--json")
    record = json.loads(out)
    assert (record["model"], record["pretrained"], record["probes"]) == ("msresnet20", False, 2)
    assert [f"{block['phi']:.4g}" for block in record["blocks"]] == [row[1] for row in rows[1:-2]]


def test_command_takes_a_model_of_events(capsys, small):
    assert len(json.loads(run(capsys, "msresnet20_dvs", "--json")[1])["blocks"]) == 9


def test_command_refuses_in_one_sentence(capsys, tmp_path):
    for argv, words in [
        (("msresnet19",), "close matches: msresnet"),
        (("msresnet20", "--probes", "1"), "probes must be at least 2, got 1"),
        ((str(tmp_path),), "--pretrained"),
        ((str(tmp_path), "--pretrained"), "config.json cannot be read"),
        (("msresnet44", "--pretrained"), "msresnet44"),
    ]:
        status, out, err = run(capsys, *argv)
        assert (status, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1
