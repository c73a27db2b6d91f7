import pytest
import torch
from test_train import arguments, assert_refused, checkpoint

import msr_zoo
import train
from grow import grow
from msr_zoo.hub import save_pretrained
from msr_zoo.models.tags import CIFAR10_CLASSES


@pytest.mark.parametrize(
    ("deep", "source"),
    [("msresnet56", "msresnet20.cifar10"), ("resnet_twin32", "resnet_twin20.cifar10")],
)
def test_grown_network_answers_as_its_source_does(deep, source):
    shallow = msr_zoo.create_model(source, pretrained=True).eval()
    network = msr_zoo.create_model(deep, num_steps=shallow.num_steps, zero_init_last=False).eval()
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        answers = shallow(pictures)
        assert not torch.equal(network(pictures), answers)
        grow(network, source, CIFAR10_CLASSES)
        assert torch.equal(network(pictures), answers)


@pytest.fixture
def source(tmp_path):
    """The weights folder of a shallow network of the test's classes."""
    network = msr_zoo.create_model("msresnet20", num_classes=2)
    network.pretrained_cfg["label_names"] = ["bright", "dark"]
    save_pretrained(network, tmp_path / "source", card="The source of a test.")
    return f"local-dir:{tmp_path / 'source'}"


def test_all_blocks_of_a_grown_network_learn(pictures, source, tmp_path):
    growing = ("--model", "msresnet32", "--grown-from", source, "--schedule", "4x2")
    train.main(arguments(pictures, tmp_path / "run", *growing))
    weights = checkpoint(tmp_path / "run")["model"]
    empty = [name for name in weights if name.endswith("bn2.weight") and not weights[name].any()]
    assert not empty
    assert sum(name.endswith("bn2.weight") for name in weights) == 15


def test_what_was_given_learns_at_its_own_rate(pictures, source, tmp_path):
    growing = ("--model", "msresnet32", "--grown-from", source, "--schedule", "4x2")
    train.main(arguments(pictures, tmp_path / "run", *growing, "--grown-lr", "0"))
    weights = checkpoint(tmp_path / "run")["model"]
    given = msr_zoo.create_model(source, pretrained=True)
    for name, parameter in given.named_parameters():
        assert torch.equal(weights[name], parameter), name
    assert weights["layer1.4.bn2.weight"].any()
    # A run that goes on keeps them.
    out = tmp_path / "stopped"
    train.main(arguments(pictures, out, *growing, "--grown-lr", "0.5", "--max-steps", "2"))
    train.main(arguments(pictures, out, *growing, "--grown-lr", "0.5"))
    shares = {group["share"] for group in checkpoint(out)["optimizer"]["param_groups"]}
    assert shares == {0.5, 1.0}


@pytest.mark.parametrize(
    ("deep", "source", "message"),
    [
        ("msresnet20", "resnet_twin20.cifar10", "must both be MS-ResNets"),
        ("msresnet18", "msresnet20.cifar10", "blocks or widths"),
    ],
)
def test_what_cannot_grow_is_refused(deep, source, message):
    network = msr_zoo.create_model(deep, num_classes=10)
    with pytest.raises(ValueError, match=message):
        grow(network, source, CIFAR10_CLASSES)


def test_plain_spiking_network_does_not_grow(tmp_path):
    source = msr_zoo.create_model("spiking_resnet20")
    save_pretrained(source, tmp_path / "source", card="The source of a test.")
    with pytest.raises(ValueError, match="cannot grow"):
        grow(
            msr_zoo.create_model("spiking_resnet32"),
            f"local-dir:{tmp_path / 'source'}",
            CIFAR10_CLASSES,
        )


def test_source_of_something_else_is_refused(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    cifar10 = ("--grown-from", "msresnet20.cifar10", "--model", "msresnet32")
    assert_refused(capsys, "does not know the classes ('bright', 'dark')", pictures, out, *cifar10)
    both = ("--pretrained", "true", "--grown-from", "msresnet20.cifar10")
    assert_refused(capsys, "choose pretrained or grown_from", pictures, out, *both)
    assert_refused(capsys, "grown_lr must be at least 0", pictures, out, "--grown-lr", "-1")
    assert_refused(capsys, "give grown_from too", pictures, out, "--grown-lr", "0.5")
    assert not out.exists()
