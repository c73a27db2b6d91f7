import json
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file

import msr_zoo
from msr_zoo.convert import _our_name, convert_checkpoint


def author_keys(arch):
    """Written from the authors' modules, not from our renaming: their keys beside ours."""
    bn = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    deep = arch == "msresnet104"
    depths = {"msresnet18": (2, 2, 2, 2), "msresnet104": (3, 8, 32, 8), "msresnet20": (3, 3, 3)}
    pairs = {}
    for i in range(3 if deep else 1):
        pairs[f"conv1.{i}.weight"] = f"stem.{i}.weight"
        if deep:
            pairs[f"conv1.{i}.bias"] = f"stem.{i}.bias"
    last = 3 if deep else 1
    pairs |= {f"conv1.{last}.bn.{kind}": f"stem.{last}.{kind}" for kind in bn}
    for stage, depth in enumerate(depths[arch]):
        for i in range(depth):
            theirs, ours = f"conv{stage + 2}_x.{i}", f"layer{stage + 1}.{i}"
            pairs[f"{theirs}.residual_function.1.weight"] = f"{ours}.conv1.weight"
            pairs[f"{theirs}.residual_function.4.weight"] = f"{ours}.conv2.weight"
            for kind in bn:
                pairs[f"{theirs}.residual_function.2.bn.{kind}"] = f"{ours}.bn1.{kind}"
                pairs[f"{theirs}.residual_function.5.bn.{kind}"] = f"{ours}.bn2.{kind}"
            if i == 0 and not (arch == "msresnet20" and stage == 0):
                at = 1 if deep else 0
                pairs[f"{theirs}.shortcut.{at}.weight"] = f"{ours}.shortcut.{at}.weight"
                for kind in bn:
                    pairs[f"{theirs}.shortcut.{at + 1}.bn.{kind}"] = (
                        f"{ours}.shortcut.{at + 1}.{kind}"
                    )
    pairs |= {"fc.weight": "fc.weight", "fc.bias": "fc.bias"}
    return pairs


@pytest.fixture
def theirs():
    """An msresnet20 of the authors with random tensors, and the same by our names."""
    ours = msr_zoo.create_model("msresnet20").state_dict()
    ours = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in ours.items()
    }
    return {key: ours[name] for key, name in author_keys("msresnet20").items()}, ours


@pytest.mark.parametrize("arch", ["msresnet18", "msresnet104", "msresnet20"])
def test_every_key_of_the_authors_has_its_place(arch):
    pairs = author_keys(arch)
    with torch.device("meta"):
        wanted = msr_zoo.create_model(arch).state_dict().keys()
    assert {key: _our_name(key) for key in pairs} == pairs
    assert set(pairs.values()) == set(wanted)


@pytest.mark.parametrize(
    ("prefix", "nest"), [("", None), ("module.", None), ("module.", "state_dict"), ("", "model")]
)
def test_converted_folder_has_the_tensors(theirs, tmp_path, prefix, nest):
    checkpoint, ours = theirs
    checkpoint = {prefix + key: value for key, value in checkpoint.items()}
    torch.save({nest: checkpoint, "epoch": 3} if nest else checkpoint, tmp_path / "a.pth")
    out = convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out", num_steps=4)
    assert out == tmp_path / "out"
    stored = load_file(out / "model.safetensors")
    assert stored.keys() == ours.keys()
    assert all(torch.equal(stored[key], ours[key]) for key in ours)
    assert "a.pth" in (out / "README.md").read_text()
    assert json.loads((out / "config.json").read_text())["spiking"]["T"] == 4
    model = msr_zoo.create_model(f"local-dir:{out}", pretrained=True)
    assert model.num_steps == 4
    assert torch.equal(model.fc.weight, ours["fc.weight"])


def test_classes_and_channels_come_from_the_file(theirs, tmp_path):
    checkpoint, _ = theirs
    checkpoint["fc.weight"], checkpoint["fc.bias"] = torch.rand(7, 64), torch.rand(7)
    checkpoint["conv1.0.weight"] = torch.rand(16, 2, 3, 3)
    torch.save(checkpoint, tmp_path / "a.pth")
    out = convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out")
    model = msr_zoo.create_model(f"local-dir:{out}", pretrained=True)
    assert (model.num_classes, model.in_chans, model.num_steps) == (7, 2, 6)


def test_keys_that_do_not_fit_are_named(theirs, tmp_path):
    checkpoint, _ = theirs
    del checkpoint["conv3_x.1.residual_function.4.weight"]
    checkpoint["conv5_x.0.residual_function.3.weight"] = torch.rand(1)
    checkpoint["extra.thing"] = torch.rand(1)
    torch.save(checkpoint, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth does not fit msresnet20") as error:
        convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out")
    missing, unexpected = str(error.value).split("unexpected")
    assert "'layer2.1.conv2.weight'" in missing
    assert "'extra.thing'" in unexpected
    assert "'conv5_x.0.residual_function.3.weight'" in unexpected
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pth"]


def test_a_tensor_of_another_shape_is_named(theirs, tmp_path):
    checkpoint, _ = theirs
    checkpoint["conv2_x.0.residual_function.1.weight"] = torch.rand(16, 16, 1, 1)
    torch.save(checkpoint, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight is \(16, 16, 1, 1\), not"):
        convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out")


@pytest.mark.parametrize("arch", ["spiking_resnet20", "sew_resnet20", "resnet_twin20"])
def test_a_model_that_only_has_the_same_tensors_is_refused(theirs, tmp_path, arch):
    torch.save(theirs[0], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=f"{arch} is no MS-ResNet"):
        convert_checkpoint(tmp_path / "a.pth", arch, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.fill_(torch.nan), r"a\.pth: layer1\.0\.conv1\.weight has values that are not"),
        (lambda t: t.double().fill_(1e300), "values that are not finite"),
        (
            lambda t: t.to(torch.int8),
            r"layer1\.0\.conv1\.weight is torch\.int8, not torch\.float32",
        ),
    ],
)
def test_tensors_that_are_no_weights_are_named(theirs, tmp_path, change, says):
    checkpoint, _ = theirs
    key = "conv2_x.0.residual_function.1.weight"
    checkpoint[key] = change(checkpoint[key])
    torch.save(checkpoint, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=says):
        convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Evil:
    def __reduce__(self):
        return (print, ("code of a pickle ran",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a checkpoint"),
        (b"no checkpoint at all", "is not a checkpoint"),
        (pickle.dumps({"fc.weight": Evil()}), "is not a checkpoint"),
        (None, "is not a file"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, capsys, content, says):
    file = tmp_path / "a.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} {says}") as error:
        convert_checkpoint(file, "msresnet20", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [[], {}, {"epoch": 3}, torch.rand(3)])
def test_a_checkpoint_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth holds no state dict"):
        convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out")


def test_a_folder_in_use_is_left_alone(theirs, tmp_path):
    torch.save(theirs[0], tmp_path / "a.pth")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        convert_checkpoint(tmp_path / "a.pth", "msresnet20", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_unknown_arch_is_named(theirs, tmp_path):
    torch.save(theirs[0], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"close matches: .*msresnet20"):
        convert_checkpoint(tmp_path / "a.pth", "msresnet21", tmp_path / "out")
