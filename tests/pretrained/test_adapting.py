import json

import huggingface_hub
import pytest
import timm
import torch
from case import NAME, REPO, SMALL, assert_same, load
from safetensors.torch import load_file
from timm.models import _registry

import msr_zoo
from msr_zoo import pretrained
from msr_zoo.models import tags


def test_steps_come_from_the_tag_under_the_callers(made, weights, server):
    server.files[f"{REPO}/model.safetensors"] = weights
    for given in ({"name": NAME}, {"name": "msresnet20", "pretrained_cfg": "test"}):
        model = load(**given)
        assert (model.num_steps, model.decay, model.threshold) == (3, 0.5, 0.75)
    model = load(num_steps=2, decay=0.125)
    assert (model.num_steps, model.decay, model.threshold) == (2, 0.125, 0.75)
    assert timm.create_model(NAME, **SMALL).num_steps == 3
    assert timm.create_model("msresnet20", **SMALL).num_steps == 6
    assert timm.create_model("msresnet20_dvs", **SMALL).num_steps == 10
    with torch.device("meta"):
        assert timm.create_model("msresnet104").num_steps == 5


def test_head_and_channels_adapt(made, weights, server):
    server.files[f"{REPO}/model.safetensors"] = weights
    reference, picture = made[1], torch.rand(2, 3, 16, 16)
    model = load(num_classes=4)
    assert model(picture).shape == (2, 4)
    assert torch.equal(model.forward_features(picture), reference.forward_features(picture))
    features = load(features_only=True, out_indices=(-1,))(picture)[-1]
    assert torch.equal(features, reference.forward_intermediates(picture, [3])[1][0])
    stem = reference.stem[0].weight
    gray = load(in_chans=1).stem[0].weight
    assert torch.allclose(gray, stem.sum(1, keepdim=True), atol=1e-6)
    two = load(in_chans=2).stem[0].weight
    assert torch.allclose(two, stem[:, :2] * 3 / 2, atol=1e-6)


def test_untrained_models_of_other_channels_need_no_weights():
    model = timm.create_model("msresnet34", num_classes=10, in_chans=2)
    assert (model.in_chans, model.num_classes) == (2, 10)
    assert timm.create_model("msresnet20_dvs").in_chans == 2


def test_a_source_of_the_caller_is_taken(made, weights, server, tmp_path):
    mine = made[0] / "model.safetensors"
    for overlay in (
        {"file": str(mine)},
        {"url": f"{server.url}/plain/x/y/model.safetensors"},
        {"hf_hub_id": "me/mine"},
        {"state_dict": load_file(mine)},
    ):
        server.files = {"x/y/model.safetensors": weights, "me/mine/model.safetensors": weights}
        model = load(pretrained_cfg_overlay=overlay, cache_dir=tmp_path)
        assert torch.equal(model.fc.weight, made[1].fc.weight)
    cfg = _registry.get_pretrained_cfg(NAME)
    server.files = {f"{REPO}/model.safetensors": weights}
    for given in (cfg, cfg.to_dict()):
        assert_same(load("msresnet20", pretrained_cfg=given), made[1])


def test_repository_restores_its_own_steps(made, weights, server):
    server.files["me/mine/config.json"] = (made[0] / "config.json").read_bytes()
    server.files["me/mine/model.safetensors"] = weights
    model = msr_zoo.create_model("hf-hub:me/mine", pretrained=True).eval()
    assert (model.num_steps, model.decay, model.threshold) == (3, 0.5, 0.75)
    assert_same(model, made[1])
    assert msr_zoo.create_model("hf-hub:me/mine", pretrained=True, num_steps=1).num_steps == 1


def test_a_repository_that_is_not_there_is_named(server, monkeypatch):
    with pytest.raises(
        RuntimeError, match=r"^No config\.json found for hf-hub:me/no: no such repo"
    ):
        msr_zoo.create_model("hf-hub:me/no", pretrained=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match="not in its cache, and HF_HUB_OFFLINE is set"):
        msr_zoo.create_model("hf-hub:me/no", pretrained=True)


def test_a_folder_is_checked_without_its_weights_too(made, tmp_path):
    config = json.loads((made[0] / "config.json").read_text())
    config["pretrained_cfg"]["interpolation"] = "linear"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"must be one of .*, got 'linear'"):
        msr_zoo.create_model(f"local-dir:{tmp_path}")


def in_this_repository():
    return sorted(file.parent.name for file in pretrained.WHEEL.glob("*/model.safetensors"))


@pytest.mark.parametrize("name", in_this_repository())
def test_every_tag_in_the_wheel_loads_alike_by_name_and_by_folder(name):
    assert tags.TAGS[name].sha256
    by_name = msr_zoo.create_model(name, pretrained=True).eval()
    by_folder = msr_zoo.create_model(f"local-dir:{pretrained.WHEEL / name}", pretrained=True).eval()
    picture = torch.rand(2, *by_name.pretrained_cfg["input_size"])
    assert torch.equal(by_name(picture), by_folder(picture))
    assert by_name.num_steps == by_folder.num_steps == tags.TAGS[name].num_steps


def test_front_door_knows_our_models_only():
    assert "msresnet18" in msr_zoo.list_models()
    assert "resnet18" not in msr_zoo.list_models()
    assert msr_zoo.list_models("*104") == ["msresnet104"]
    assert "msresnet34.in1k" in msr_zoo.list_pretrained()
    assert msr_zoo.is_model("msresnet20")
    assert not msr_zoo.is_model("resnet18")
    assert msr_zoo.model_info("msresnet104").input_size == (3, 224, 224)
    with pytest.raises(
        ValueError, match=r"Unknown model 'msresnet35'; close matches: .*msresnet34"
    ):
        msr_zoo.create_model("msresnet35")
    with pytest.raises(ValueError, match="Unknown model 'resnet18'"):
        msr_zoo.create_model("resnet18")
    # timm's error for either is RuntimeError.
    for kind in (ValueError, RuntimeError):
        with pytest.raises(kind, match=r"'msresnet34.nothing'; there is msresnet34, .*in1k"):
            msr_zoo.create_model("msresnet34.nothing", pretrained=True)
