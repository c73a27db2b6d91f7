import dataclasses
import json
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file

import msr_zoo
from msr_zoo import hub
from msr_zoo.event_input import EventInput
from msr_zoo.pretrained import digest_of

# Nothing here is what the variant alone would give.
SMALL = {"depths": (1, 1, 1), "num_steps": 3, "decay": 0.5, "threshold": 0.75}


def trained(name="msresnet20", **kwargs):
    """A small model whose every tensor matters: at birth the last scale of each branch is 0."""
    model = msr_zoo.create_model(name, **{**SMALL, **kwargs}, zero_init_last=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def picture():
    return torch.rand(2, 3, 16, 16)


def test_full_precision_folder_gives_equal_logits(tmp_path, picture):
    model = trained(num_classes=7)
    hub.save_pretrained(model, tmp_path / "w", card="# card", full_precision=True)
    for create_model in (msr_zoo.create_model, timm.create_model):
        loaded = create_model(f"local-dir:{tmp_path / 'w'}", pretrained=True).eval()
        assert (loaded.num_steps, loaded.decay, loaded.threshold) == (3, 0.5, 0.75)
        assert torch.equal(loaded(picture), model(picture))
    with_steps = msr_zoo.create_model(f"local-dir:{tmp_path / 'w'}", pretrained=True, num_steps=1)
    assert with_steps.num_steps == 1


@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel])
def test_what_wraps_a_model_is_not_stored(tmp_path, monkeypatch, wrap):
    # Where there is a GPU, DataParallel would move the model there.
    module = sys.modules[torch.nn.DataParallel.__module__]
    monkeypatch.setattr(module, "_get_available_device_type", lambda: None)
    model = trained()
    hub.save_pretrained(wrap(model), tmp_path / "w", card="", full_precision=True)
    loaded = msr_zoo.create_model(f"local-dir:{tmp_path / 'w'}", pretrained=True)
    assert torch.equal(loaded.fc.weight, model.fc.weight)


def test_a_model_without_data_is_refused(tmp_path):
    with torch.device("meta"):
        model = msr_zoo.create_model("msresnet20")
    with pytest.raises(ValueError, match=r"stem\.0\.weight has no data: it is on the meta device"):
        hub.save_pretrained(model, tmp_path / "w", card="")
    assert list(tmp_path.iterdir()) == []


def test_stored_tensors_are_half_where_they_may_be(tmp_path):
    model = trained()
    digest = hub.save_pretrained(model, tmp_path / "w", card="# card")
    stored = load_file(tmp_path / "w" / "model.safetensors")
    state = model.state_dict()
    assert stored.keys() == state.keys()
    assert stored["layer1.0.conv1.weight"].dtype == stored["fc.bias"].dtype == torch.float16
    assert stored["layer2.0.shortcut.0.weight"].dtype == torch.float16
    assert stored["layer1.0.bn1.running_var"].dtype == torch.float32
    for key, value in stored.items():
        rounded = state[key].half() if value.dtype == torch.float16 else state[key]
        assert torch.equal(value, rounded)
    assert digest == digest_of(tmp_path / "w" / "model.safetensors")


def test_folder_is_exactly_a_hub_repository(tmp_path):
    model = trained(in_chans=2)
    model.layer1[0].conv1.weight.data = model.layer1[0].conv1.weight.data.to(
        memory_format=torch.channels_last
    )
    hub.save_pretrained(model, tmp_path / "deep" / "w", card="# card")
    assert sorted(file.name for file in (tmp_path / "deep" / "w").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["w"]
    assert (tmp_path / "deep" / "w" / "README.md").read_text() == "# card"
    config = json.loads((tmp_path / "deep" / "w" / "config.json").read_text())
    assert config["architecture"] == "msresnet20"
    assert config["spiking"] == {
        "neuron": "LIF",
        "T": 3,
        "decay": 0.5,
        "threshold": 0.75,
        "reset": "hard",
        "surrogate": "rectangle of width 1",
    }
    args = config["model_args"]
    assert args["depths"] == [1, 1, 1]
    assert (args["num_steps"], args["decay"], args["threshold"]) == (3, 0.5, 0.75)
    assert (args["in_chans"], args["num_classes"]) == (2, 10)
    assert "file" not in config["pretrained_cfg"]


@pytest.mark.parametrize("name", msr_zoo.list_models())
def test_config_rebuilds_every_variant(tmp_path, monkeypatch, name):
    """By the constructor alone: no argument may stand only in the variant's own function."""
    depths = (1, 1, 1, 1) if name.endswith(("18", "34", "104")) else (1, 1, 1)
    model = msr_zoo.create_model(name, depths=depths, num_classes=3)
    hub._save_config(model, tmp_path / "config.json")
    args = json.loads((tmp_path / "config.json").read_text())["model_args"]
    rebuilt = type(model)(**args)
    assert rebuilt.num_steps == model.num_steps
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


def test_head_and_channels_of_a_folder_adapt(tmp_path, picture):
    model = trained()
    hub.save_pretrained(model, tmp_path / "w", card="", full_precision=True)
    source = f"local-dir:{tmp_path / 'w'}"
    loaded = msr_zoo.create_model(source, pretrained=True, num_classes=4).eval()
    assert loaded(picture).shape == (2, 4)
    assert torch.equal(loaded.forward_features(picture), model.forward_features(picture))
    gray = msr_zoo.create_model(source, pretrained=True, in_chans=1)
    assert torch.allclose(gray.stem[0].weight, model.stem[0].weight.sum(1, keepdim=True), atol=1e-6)
    two = msr_zoo.create_model(source, pretrained=True, in_chans=2)
    assert torch.allclose(two.stem[0].weight, model.stem[0].weight[:, :2] * 1.5, atol=1e-6)


def test_what_does_not_fit_float16_is_refused(tmp_path):
    model = trained()
    model.fc.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"fc\.weight does not fit float16"):
        hub.save_pretrained(model, tmp_path / "w", card="")
    assert list(tmp_path.iterdir()) == []
    hub.save_pretrained(model, tmp_path / "w", card="", full_precision=True)


def test_an_error_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr(hub, "_save_config", broken)
    with pytest.raises(OSError, match="disk full"):
        hub.save_pretrained(trained(), tmp_path / "w", card="")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "w").mkdir()
    hub.save_pretrained(trained(), tmp_path / "w", card="first")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        hub.save_pretrained(trained(), tmp_path / "w", card="second")
    assert (tmp_path / "w" / "README.md").read_text() == "first"


@pytest.mark.parametrize("given", [".", "link"])
def test_an_empty_folder_stays_where_it_is(tmp_path, monkeypatch, given):
    """It may be the current one, behind a link, or a mount point."""
    (tmp_path / "w").mkdir()
    (tmp_path / "link").symlink_to("w")
    monkeypatch.chdir(tmp_path / "w" if given == "." else tmp_path)
    before = (tmp_path / "w").stat().st_ino
    hub.save_pretrained(trained(), given, card="# card")
    assert (tmp_path / "w").stat().st_ino == before
    assert {file.name for file in (tmp_path / "w").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cannot be written"):
        hub.check_new(tmp_path / "file" / "below" / "w")
    hub.check_new(tmp_path / "new" / "w")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_saving_again_keeps_how_recordings_become_the_input(tmp_path):
    events = EventInput(window_us=None, size=(8, 8), sensor=(16, 16), field=4, num_steps=3)
    model = trained("msresnet20_dvs")
    hub.save_pretrained(model, tmp_path / "one", card="", events=events)
    again = msr_zoo.create_model(f"local-dir:{tmp_path / 'one'}", pretrained=True, num_steps=5)
    hub.save_pretrained(again, tmp_path / "two", card="")
    loaded = msr_zoo.create_model(f"local-dir:{tmp_path / 'two'}", pretrained=True)
    assert EventInput.of(loaded) == dataclasses.replace(events, num_steps=5)


def test_a_folder_that_has_moved_has_said_how_recordings_become_the_input(tmp_path, monkeypatch):
    events = EventInput(size=(8, 8), num_steps=3)
    hub.save_pretrained(trained("msresnet20_dvs"), tmp_path / "one", card="", events=events)
    monkeypatch.chdir(tmp_path)
    model = msr_zoo.create_model("local-dir:one", pretrained=True)
    (tmp_path / "one").rename(tmp_path / "two")
    assert EventInput.of(model) == events
    hub.save_pretrained(model, tmp_path / "three", card="")
    again = msr_zoo.create_model("local-dir:three", pretrained=True)
    assert EventInput.of(again) == events


def test_a_folder_without_safetensors_is_refused(tmp_path):
    model = trained()
    hub.save_pretrained(model, tmp_path / "w", card="")
    weights = tmp_path / "w" / "model.safetensors"
    torch.save(model.state_dict(), tmp_path / "w" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(RuntimeError, match=r"holds no model\.safetensors, and pickles are never"):
        timm.create_model(f"local-dir:{tmp_path / 'w'}", pretrained=True)
    torch.save(model.state_dict(), weights)
    with pytest.raises(RuntimeError, match="is a pickle, and only safetensors are loaded"):
        timm.create_model(f"local-dir:{tmp_path / 'w'}", pretrained=True)
