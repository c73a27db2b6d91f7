import dataclasses
import os
import subprocess
import sys

import huggingface_hub
import pytest
import timm
import torch
from hub_server import hub_server
from safetensors.torch import load_file, save, save_file
from timm.models import _registry

import msr_zoo
from msr_zoo import hub, pretrained
from msr_zoo.models import tags

NAME = "msresnet20.test"
REPO = f"{tags.HUB_OWNER}/{NAME}"
SMALL = {"depths": (1, 1, 1)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A weights folder, made at other settings than the variant's, and the model in it."""
    model = msr_zoo.create_model(
        "msresnet20", **SMALL, num_steps=3, decay=0.5, threshold=0.75, zero_init_last=False
    )
    folder = tmp_path_factory.mktemp("made") / NAME
    hub.save_pretrained(model, folder, card="# test", full_precision=True)
    return folder, model.eval()


def register(monkeypatch, sha256):
    """What a line in TAGS does when the package is imported."""
    cifar = tags.default_cfgs("msresnet")["msresnet20"].default
    cfg = {"num_classes": 10, "input_size": cifar.input_size}
    tag = tags.Tag(num_steps=3, decay=0.5, threshold=0.75, sha256=sha256, cfg=cfg)
    monkeypatch.setitem(tags.TAGS, NAME, tag)
    entry = tags.default_cfgs("msresnet")["msresnet20"].cfgs["test"]
    entry = dataclasses.replace(entry, architecture="msresnet20", tag="test")
    monkeypatch.setitem(_registry._model_pretrained_cfgs, NAME, entry)


@pytest.fixture
def weights(made, monkeypatch):
    folder, _ = made
    register(monkeypatch, pretrained.digest_of(folder / "model.safetensors"))
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The Hub that huggingface_hub's client knows: its address is a constant read at import."""
    constants = huggingface_hub.constants
    monkeypatch.delenv("MSR_ZOO_MIRROR", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def load(name=NAME, create_model=timm.create_model, **kwargs):
    return create_model(name, pretrained=True, **{**SMALL, **kwargs}).eval()


def bodies(server):
    """Downloads; the client asks its Hub for other things as well."""
    return [r for r in server.requests if r[0] == "GET" and "/api/" not in r[1]]


def assert_same(model, reference):
    picture = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(picture), reference(picture))


def other_weights(made):
    """Weights that fit as well, but are not those of the tag."""
    state = {key: value + 1 for key, value in made[1].state_dict().items()}
    return save(state)


@pytest.mark.parametrize("create_model", [timm.create_model, msr_zoo.create_model])
def test_hub_is_asked_once_and_then_the_cache(made, weights, server, monkeypatch, create_model):
    server.files[f"{REPO}/model.safetensors"] = weights
    assert_same(load(create_model=create_model), made[1])
    assert len(bodies(server)) == 1
    assert_same(load(create_model=create_model), made[1])
    assert len(bodies(server)) == 1
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    server.requests.clear()
    assert_same(load(create_model=create_model), made[1])
    assert server.requests == []


def test_cache_dir_is_respected(weights, server, tmp_path):
    server.files[f"{REPO}/model.safetensors"] = weights
    load(cache_dir=tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").rglob("model.safetensors"))
    assert not (tmp_path / "cache").exists()


def test_interrupted_download_is_resumed(made, weights, server, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 256)
    server.files[f"{REPO}/model.safetensors"] = weights
    server.cut = [1024]
    assert_same(load(), made[1])
    assert [request[2] for request in bodies(server)] == [None, "bytes=1024-"]


def test_download_that_never_ends_whole_leaves_nothing_to_load(made, weights, server):
    server.files[f"{REPO}/model.safetensors"] = weights
    server.cut = [1024] + [0] * 20
    with pytest.raises(RuntimeError, match=f"No weights found for {NAME}"):
        load()
    server.cut = []
    assert_same(load(), made[1])


def test_weights_of_another_digest_are_refused(made, weights, server):
    server.files[f"{REPO}/model.safetensors"] = other_weights(made)
    with pytest.raises(RuntimeError, match=r"has sha256 .* but the weights that were published"):
        load()
    with pytest.raises(RuntimeError, match="has sha256"):
        load(pretrained_cfg="test", name="msresnet20", features_only=True)


def test_a_file_swapped_in_the_cache_is_refused(made, weights, server, tmp_path):
    server.files[f"{REPO}/model.safetensors"] = weights
    load()
    (cached,) = (tmp_path / "cache").rglob("model.safetensors")
    cached.resolve().write_bytes(other_weights(made))
    with pytest.raises(RuntimeError, match="has sha256"):
        load()


def test_our_repository_is_checked_by_its_own_name_too(made, weights, server):
    server.files[f"{REPO}/config.json"] = (made[0] / "config.json").read_bytes()
    server.files[f"{REPO}/model.safetensors"] = weights
    assert_same(load(f"hf-hub:{REPO}"), made[1])
    server.files[f"{REPO}/model.safetensors"] = other_weights(made)
    with pytest.raises(RuntimeError, match="has sha256"):
        load(f"hf-hub:{REPO}")


def test_a_pickle_is_refused_wherever_it_lies(made, server, monkeypatch, tmp_path):
    register(monkeypatch, None)
    torch.save(made[1].state_dict(), tmp_path / "model.pth")
    pickled = (tmp_path / "model.pth").read_bytes()
    server.files[f"{REPO}/model.safetensors"] = pickled
    with pytest.raises(RuntimeError, match="is a pickle, and only safetensors are loaded") as error:
        load()
    assert "\n" not in str(error.value)
    server.files = {f"{REPO}/pytorch_model.bin": pickled}
    with pytest.raises(RuntimeError, match=r"model\.safetensors: no such file there"):
        load(cache_dir=tmp_path / "other")
    config = {"me/mine/config.json": (made[0] / "config.json").read_bytes()}
    server.files = {**config, "me/mine/pytorch_model.bin": pickled}
    with pytest.raises(RuntimeError, match=r"model\.safetensors: no such file there"):
        load("hf-hub:me/mine")
    with pytest.raises(RuntimeError, match=r"is not named \.safetensors"):
        load(pretrained_cfg_overlay={"file": str(tmp_path / "model.pth")})
    server.files = {"mine/model.pth": pickled}
    with pytest.raises(RuntimeError, match="is a pickle"):
        load(pretrained_cfg_overlay={"url": f"{server.url}/plain/mine/model.pth"})


def test_a_cut_file_is_refused(made, monkeypatch, tmp_path):
    cut = tmp_path / "model.safetensors"
    cut.write_bytes((made[0] / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(RuntimeError, match="is not a whole safetensors file"):
        load("msresnet20", pretrained_cfg_overlay={"file": str(cut)})


@pytest.mark.parametrize("kwargs", [{}, {"num_classes": 5}, {"features_only": True}])
@pytest.mark.parametrize("source", ["tag", "local-dir"])
def test_a_lacking_stage_is_named(made, server, monkeypatch, tmp_path, source, kwargs):
    state = {k: v for k, v in made[1].state_dict().items() if not k.startswith("layer2.")}
    folder = tmp_path / NAME
    folder.mkdir()
    save_file({**state, "alien": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.json").write_bytes((made[0] / "config.json").read_bytes())
    register(monkeypatch, None)
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(tmp_path))
    name = NAME if source == "tag" else f"local-dir:{folder}"
    with pytest.raises(RuntimeError, match=r"missing \['layer2\.0\.bn1\.bias'.*\['alien'\]"):
        load(name, **kwargs)


def test_mirror_folder_comes_before_the_hub(made, weights, server, monkeypatch):
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(made[0].parent))
    assert_same(load(), made[1])
    assert server.requests == []


def test_wheel_comes_before_the_mirror(made, weights, server, monkeypatch, tmp_path):
    (tmp_path / "mirror" / NAME).mkdir(parents=True)
    (tmp_path / "mirror" / NAME / "model.safetensors").write_bytes(other_weights(made))
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(pretrained, "WHEEL", made[0].parent)
    assert_same(load(), made[1])
    monkeypatch.setattr(pretrained, "WHEEL", tmp_path)
    with pytest.raises(RuntimeError, match="has sha256"):
        load()


def test_mirror_url_is_fetched_once(made, weights, server, monkeypatch, tmp_path):
    monkeypatch.setenv("MSR_ZOO_MIRROR", f"{server.url}/plain/mirror/")
    server.files[f"mirror/{NAME}/model.safetensors"] = weights
    for _ in range(2):
        assert_same(load(cache_dir=tmp_path / "cache"), made[1])
    assert len(server.requests) == 1
    (cached,) = (tmp_path / "cache").rglob("*.safetensors")
    cached.write_bytes(other_weights(made))
    with pytest.raises(RuntimeError, match="has sha256"):
        load(cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("served", ["cut", "swapped"])
def test_mirror_url_keeps_no_wrong_file(made, weights, server, monkeypatch, tmp_path, served):
    monkeypatch.setenv("MSR_ZOO_MIRROR", f"{server.url}/plain/mirror")
    server.files[f"mirror/{NAME}/model.safetensors"] = (
        other_weights(made) if served == "swapped" else weights[: len(weights) // 2]
    )
    with pytest.raises(RuntimeError, match=f"{server.url}/plain/mirror/{NAME}"):
        load(cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_mirror_without_the_weights_leaves_it_to_the_hub(made, weights, server, monkeypatch):
    server.files[f"{REPO}/model.safetensors"] = weights
    for mirror in (str(made[0] / "nowhere"), f"{server.url}/plain/nowhere"):
        monkeypatch.setenv("MSR_ZOO_MIRROR", mirror)
        assert_same(load(), made[1])


def test_nothing_found_says_where_it_looked_and_what_to_do(server, monkeypatch, tmp_path):
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(tmp_path))
    with pytest.raises(RuntimeError) as error:
        timm.create_model("msresnet34", pretrained=True)
    message = str(error.value)
    assert "msresnet34.in1k" in message
    assert str(pretrained.WHEEL) in message
    assert str(tmp_path) in message
    assert f"{tags.HUB_OWNER}/msresnet34.in1k/model.safetensors: no such repository" in message
    assert "Go online, or set MSR_ZOO_MIRROR" in message
    assert "\n" not in message


def test_offline_without_cache_and_import_stay_silent(tmp_path):
    code = """
import socket, sys
def refuse(*args):
    raise AssertionError("network")
socket.socket.connect = refuse
import msr_zoo
print("imported")
try:
    msr_zoo.create_model("msresnet18", pretrained=True)
except RuntimeError as error:
    print(error)
"""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    env.pop("MSR_ZOO_MIRROR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "imported"
    assert second.startswith("No weights found for msresnet18.in1k")
    assert "HF_HUB_OFFLINE is set" in second
    assert done.stderr == ""


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
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        msr_zoo.create_model("msresnet34.nothing", pretrained=True)
