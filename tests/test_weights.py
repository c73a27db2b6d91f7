"""Every weights folder of the tree is what the Hub, git and the wheel take, and its tag's own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import msr_zoo
from export import GIT_BYTES, WHEEL_BYTES
from msr_zoo.models.tags import TAGS
from msr_zoo.pretrained import digest_of

ROOT = Path(__file__).parents[1]
WHEEL, HUB = ROOT / "msr_zoo" / "weights", ROOT / "hub"
FOLDERS = sorted(f for root in (WHEEL, HUB) for f in root.glob("*") if f.is_dir())
BESIDE_WEIGHTS = {"config.json", "README.md", "results.json", "training.json"}
# The weights, and the picture that a card of fine-tuned ones shows.
MAY_LIE_THERE = {"model.safetensors", "confusion.png"}
ALL_BYTES = 120_000_000


def complaints(folders, wheel=WHEEL):
    """What is wrong with these folders, in words."""
    found, total = [], 0
    for folder in folders:
        name, file = folder.name, folder / "model.safetensors"
        files = {path.name for path in folder.iterdir()}
        if BESIDE_WEIGHTS - files or files - BESIDE_WEIGHTS - MAY_LIE_THERE:
            found.append(f"{name}: {sorted(files)}")
            continue
        if json.loads((folder / "config.json").read_text())["architecture"] != name.split(".")[0]:
            found.append(f"{name}: the architecture is another one")
        if name not in TAGS or not TAGS[name].sha256:
            found.append(f"{name}: no tag with a digest")
        elif TAGS[name].sha256 not in (folder / "README.md").read_text():
            found.append(f"{name}: the card is of other weights")
        if not file.exists():
            continue  # larger than git takes; the digest in the tag and the JSON stand for it
        size = file.stat().st_size
        total += size
        limit = WHEEL_BYTES if folder.parent == wheel else GIT_BYTES
        if size > limit:
            found.append(f"{name}: {size} bytes, more than {limit}")
            continue
        if name in TAGS and digest_of(file) != TAGS[name].sha256:
            found.append(f"{name}: the digest is not that of its tag")
        for key, tensor in load_file(file).items():
            half = tensor.dim() > 1 or key.startswith("fc.") or (".bias" in key and "bn" not in key)
            if tensor.is_floating_point() and tensor.dtype != torch.float32 and not half:
                found.append(f"{name}: {key} is {tensor.dtype}")
            if tensor.dim() > 1 and tensor.dtype != torch.float16:
                found.append(f"{name}: {key} is {tensor.dtype}")
    if total > ALL_BYTES:
        found.append(f"{total} bytes in all, more than {ALL_BYTES}")
    return found


def test_weights_keep_to_what_is_promised():
    assert FOLDERS
    assert complaints(FOLDERS) == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_tag_gives_what_its_folder_holds(folder, monkeypatch):
    if not (folder / "model.safetensors").exists():
        pytest.skip("its weights are larger than git takes")
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(HUB))
    named = msr_zoo.create_model(folder.name, pretrained=True).eval()
    local = msr_zoo.create_model(f"local-dir:{folder}", pretrained=True).eval()
    size = named.pretrained_cfg["input_size"]
    assert tuple(size) == tuple(local.pretrained_cfg["input_size"])
    x = torch.rand(1, *size)
    with torch.inference_mode():
        assert torch.equal(named(x), local(x))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder without fault, and its tag."""
    folder = tmp_path / "wheel" / "msresnet20.test"
    folder.mkdir(parents=True)
    for name in BESIDE_WEIGHTS:
        (folder / name).write_text('{"architecture": "msresnet20"}')
    tensors = {"a.conv1.weight": torch.zeros(1, 1).half(), "a.bn1.weight": torch.zeros(1)}
    save_file(tensors, folder / "model.safetensors")
    tag = TAGS["msresnet20.cifar10"]
    digest = digest_of(folder / "model.safetensors")
    (folder / "README.md").write_text(f"sha256 of model.safetensors: `{digest}`.")
    monkeypatch.setitem(TAGS, folder.name, type(tag)(num_steps=1, cfg={}, sha256=digest))
    return folder


def test_what_is_wrong_with_a_folder_is_found(folder):
    wheel = folder.parent
    assert complaints([folder], wheel) == []
    card = folder / "README.md"
    right = card.read_text()
    card.write_text(right[:50])
    assert complaints([folder], wheel) == [f"{folder.name}: the card is of other weights"]
    card.write_text(right)
    save_file(
        {"a.conv1.weight": torch.zeros(1, 1), "a.bn1.weight": torch.zeros(1).half()},
        folder / "model.safetensors",
    )
    found = complaints([folder], wheel)
    assert found[0].endswith("the digest is not that of its tag")
    assert [c.split(": ")[1] for c in found[1:]] == [
        "a.conv1.weight is torch.float32",
        "a.bn1.weight is torch.float16",
    ]
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(WHEEL_BYTES + 1)
    assert complaints([folder], wheel) == [f"{folder.name}: 4000001 bytes, more than 4000000"]
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(GIT_BYTES + 1)
    others = complaints([folder] * 3, wheel=None)
    assert others[0].endswith("more than 45000000")
    assert others[-1] == "135000003 bytes in all, more than 120000000"
    (folder / "last.pt").write_text("")
    assert "last.pt" in complaints([folder], wheel)[0]
