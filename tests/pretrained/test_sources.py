import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import pytest
import timm
import torch
from case import NAME, REPO, assert_same, bodies, load, other_weights, register
from safetensors.torch import save_file

import msr_zoo
from msr_zoo import at_hand, pretrained
from msr_zoo.models import tags


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


@pytest.mark.parametrize("revision", ["", "@main"])
def test_our_repository_is_checked_by_its_own_name_too(made, weights, server, revision):
    server.files[f"{REPO}/config.json"] = (made[0] / "config.json").read_bytes()
    server.files[f"{REPO}/model.safetensors"] = weights
    assert_same(load(f"hf-hub:{REPO}{revision}"), made[1])
    server.files[f"{REPO}/model.safetensors"] = other_weights(made)
    with pytest.raises(RuntimeError, match="has sha256"):
        load(f"hf-hub:{REPO}{revision}")


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


def test_threads_that_fetch_one_url_both_get_it(made, weights, server, monkeypatch, tmp_path):
    monkeypatch.setenv("MSR_ZOO_MIRROR", f"{server.url}/plain/mirror")
    server.files[f"mirror/{NAME}/model.safetensors"] = weights
    meeting, verified = threading.Barrier(2, timeout=30), pretrained.verified

    def met(file, sha256):
        if ".part." in file.name:
            meeting.wait()  # both have fetched, and neither has given the file its name
        return verified(file, sha256)

    monkeypatch.setattr(pretrained, "verified", met)
    with ThreadPoolExecutor(2) as pool:
        loading = [pool.submit(load, cache_dir=tmp_path / "cache") for _ in range(2)]
        for model in loading:
            assert_same(model.result(), made[1])
    assert [f.name for f in (tmp_path / "cache").rglob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("mirror", "says"),
    [
        ("http://127.0.0.1:x1", "nonnumeric port: 'x1'"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("~no-such-person/mirror", "no such home folder"),
    ],
)
def test_a_mirror_that_cannot_be_is_named(weights, server, monkeypatch, mirror, says):
    monkeypatch.setenv("MSR_ZOO_MIRROR", mirror)
    with pytest.raises(RuntimeError, match=f"No weights found for {NAME}: .*{says}"):
        load()


def test_a_mirror_of_nobody_is_named_where_weights_are_listed(monkeypatch):
    monkeypatch.setenv("MSR_ZOO_MIRROR", "~no-such-person/mirror")
    with pytest.raises(OSError, match="MSR_ZOO_MIRROR is ~no-such-person/mirror, and there is no"):
        at_hand.place("msresnet18.in1k")


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
