"""What timm's own generic tests (its tests/test_models.py) ask of a ResNet, asked of ours."""

import math

import pytest
import timm
import torch
from shrunk import KINDS, VARIANTS, shrunk
from timm.data import create_transform, resolve_data_config
from timm.models import FeatureInfo, group_parameters
from timm.models._manipulate import group_modules
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3, freeze, unfreeze
from torch import nn


def picture(model: nn.Module, size: int = 32, batch: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(batch, model.in_chans, size, size)


@pytest.mark.parametrize("name", VARIANTS)
def test_forward_and_checkpointed_forward(name):
    model = shrunk(name).eval()
    x = picture(model)
    logits = model(x)
    assert logits.shape == (1, 5)
    assert not logits.isnan().any()
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(x), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_backward_reaches_every_parameter(name):
    model = shrunk(name, num_classes=42).train()
    logits = model(picture(model, batch=2))
    logits.mean().backward()
    assert logits.shape == (2, 42)
    assert [k for k, p in model.named_parameters() if p.grad is None] == []
    assert not logits.isnan().any()


@pytest.mark.parametrize("name", VARIANTS)
def test_default_cfg(name):
    model = shrunk(name).eval()
    cfg = model.default_cfg
    assert cfg["architecture"] == name
    assert cfg["classifier"] + ".weight" in model.state_dict()
    assert cfg["first_conv"] + ".weight" in model.state_dict()
    x = torch.randn(1, *cfg["input_size"])
    model = shrunk(name, num_steps=1).eval()
    assert model.forward_features(x).shape[-2:] == cfg["pool_size"]
    config = resolve_data_config(model=model)
    assert config["input_size"] == cfg["input_size"]
    if cfg["input_size"][0] == 3:
        assert create_transform(**config) is not None


@pytest.mark.parametrize("name", KINDS)
def test_head_can_be_reset_and_left_out(name):
    model = shrunk(name).eval()
    x = picture(model)
    features = model.forward_features(x)
    before = model.forward_head(features, pre_logits=True)
    assert features.shape[1] == model.num_features > 0
    assert before.shape == (1, model.head_hidden_size)
    assert torch.equal(model.forward_head(features), model(x))
    assert model.get_classifier() is model.fc

    model.reset_classifier(0)
    assert model.num_classes == 0
    assert torch.equal(model(x), before)
    model.reset_classifier(0, "")
    assert torch.equal(model(x), features)
    bare = shrunk(name, num_classes=0, global_pool="").eval()
    bare.load_state_dict(model.state_dict())
    assert torch.equal(bare(x), features)
    model.reset_classifier(7, "max")
    assert model(x).shape == (1, 7)
    model.reset_classifier(3)
    assert model.global_pool.pool_type == "max"
    model.reset_classifier(4, "catavgmax")
    assert model(x).shape == (1, 4)
    assert model.head_hidden_size == model.fc.in_features == 2 * model.num_features


@pytest.mark.parametrize("train", [True, False])
def test_a_reset_head_keeps_dtype_and_mode(train):
    model = shrunk("msresnet20").double().train(train)
    model.reset_classifier(7)
    assert model.fc.weight.dtype == torch.float64
    assert model.fc.training is model.global_pool.training is train
    assert model(picture(model).double()).dtype == torch.float64


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("in_chans", [1, 2])
def test_other_input_channels(name, in_chans):
    model = shrunk(name, in_chans=in_chans).eval()
    assert model.in_chans == in_chans
    assert model(torch.randn(1, in_chans, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize("name", KINDS)
def test_features_only(name):
    whole = shrunk(name).eval()
    model = shrunk(name, features_only=True).eval()
    channels, reductions = model.feature_info.channels(), model.feature_info.reduction()
    assert len(channels) == len(whole.feature_info) >= 4
    size = 32
    x = picture(whole, size)
    outputs = model(x)
    assert len(outputs) == len(channels)
    for channel, reduction, output in zip(channels, reductions, outputs, strict=True):
        assert output.shape == (
            1,
            channel,
            math.ceil(size / reduction),
            math.ceil(size / reduction),
        )
        assert not output.isnan().any()


@pytest.mark.parametrize("feature_cls", ["hook", "list", "dict", "fx"])
def test_other_feature_classes_than_the_getter_are_refused(feature_cls):
    with pytest.raises(ValueError, match=f"feature_cls must be 'getter', got '{feature_cls}'"):
        shrunk("msresnet20", features_only=True, feature_cls=feature_cls)
    assert len(shrunk("msresnet20", features_only=True, feature_cls="getter").feature_info) == 4


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("out_indices", [(1, 3), (0,), (-1,), (2, -1), (1,)])
def test_features_only_of_some_stages(name, out_indices):
    whole = shrunk(name).eval()
    everything = shrunk(name, features_only=True).eval()
    model = shrunk(name, features_only=True, out_indices=out_indices).eval()
    everything.model.load_state_dict(whole.state_dict(), strict=False)
    model.model.load_state_dict(whole.state_dict(), strict=False)
    x = picture(whole)
    expected = everything(x)
    outputs = model(x)
    assert len(outputs) == len(out_indices)
    for index, output in zip(out_indices, outputs, strict=True):
        assert torch.equal(output, expected[index])
    assert model.feature_info.channels() == [o.shape[1] for o in outputs]
    last = max(range(len(expected))[i] for i in out_indices)
    assert model.model.stages == [f"layer{i}" for i in range(1, last + 1)]
    assert "fc.weight" not in model.model.state_dict()


@pytest.mark.parametrize("name", KINDS)
def test_forward_intermediates(name):
    model = shrunk(name).eval()
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    x = picture(model)
    output, intermediates = model.forward_intermediates(x)
    assert torch.equal(output, model.forward_features(x))
    for channel, reduction, feature in zip(
        info.channels(), info.reduction(), intermediates, strict=True
    ):
        assert feature.shape == (1, channel, math.ceil(32 / reduction), math.ceil(32 / reduction))
    model.set_grad_checkpointing()
    again, _ = model.forward_intermediates(x)
    torch.testing.assert_close(again, output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_forward_intermediates_options(name):
    model = shrunk(name).eval()
    x = picture(model)
    output, every = model.forward_intermediates(x)
    assert len(every) == len(model.feature_info)
    last_two = model.forward_intermediates(x, indices=2, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(last_two, every[-2:], strict=True))
    some = model.forward_intermediates(x, indices=[0, 2], intermediates_only=True, stop_early=True)
    assert all(torch.equal(a, b) for a, b in zip(some, [every[0], every[2]], strict=True))
    normed = model.forward_intermediates(x, norm=True, intermediates_only=True)
    assert torch.equal(normed[-1], output)
    if name.startswith(("msresnet", "spiking")):
        assert all(((rates >= 0) & (rates <= 1)).all() for rates in normed)
    with pytest.raises(ValueError, match="output_fmt must be NCHW, got NHWC"):
        model.forward_intermediates(x, output_fmt="NHWC")


def test_stop_early_leaves_the_later_stages_out():
    model = shrunk("msresnet18").eval()
    model.layer3[0].register_forward_pre_hook(lambda *_: pytest.fail("ran"))
    model.forward_intermediates(picture(model), indices=[2], stop_early=True)


@pytest.mark.parametrize("name", KINDS)
def test_groups_of_parameters_follow_the_blocks(name):
    model = shrunk(name)
    fine = group_parameters(model, model.group_matcher())
    blocks = sum(len(model.get_submodule(stage)) for stage in model.stages)
    assert len(fine) == 1 + blocks + 1  # stem, blocks, head
    assert fine[0] == [k for k, _ in model.named_parameters() if k.startswith("stem")]
    assert fine[len(fine) - 1] == ["fc.weight", "fc.bias"]
    coarse = group_parameters(model, model.group_matcher(coarse=True))
    assert len(coarse) == 1 + len(model.stages) + 1
    assert group_modules(model, model.group_matcher())
    assert model.no_weight_decay() == set()


@pytest.mark.parametrize("name", KINDS)
def test_layer_decay_of_timm_optimizers(name):
    model = shrunk(name)
    optimizer = create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=1e-4, layer_decay=0.5)
    scales = {
        id(p): (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert len(scales) == len(list(model.parameters()))
    blocks = sum(len(model.get_submodule(stage)) for stage in model.stages)
    assert scales[id(model.fc.weight)] == (1.0, 1e-4)
    assert scales[id(model.fc.bias)] == (1.0, 0.0)
    assert scales[id(model.stem[0].weight)][0] == pytest.approx(0.5 ** (blocks + 1))
    assert scales[id(model.layer1[0].bn1.weight)] == (pytest.approx(0.5**blocks), 0.0)
    model(picture(model, batch=2)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", KINDS)
def test_exponential_average_of_timm(name):
    model = shrunk(name).train()
    ema = ModelEmaV3(model, decay=0.5)
    before = model.fc.weight.detach().clone()
    with torch.no_grad():
        model.fc.weight.add_(1.0)
    ema.update(model)
    torch.testing.assert_close(ema.module.fc.weight, before + 0.5)
    assert ema.module.eval()(picture(model)).shape == (1, 5)


def test_freezing_of_timm():
    model = shrunk("msresnet20").train()
    freeze(model, ["stem", "layer1"])
    model(picture(model, batch=2)).sum().backward()
    assert model.stem[0].weight.grad is None
    assert model.layer1[0].conv1.weight.grad is None
    assert model.layer2[0].conv1.weight.grad is not None
    unfreeze(model)


def test_names_do_not_shadow_timms_own():
    for name in VARIANTS:
        assert timm.model_entrypoint(name).__module__.startswith("msr_zoo.models."), name


@pytest.mark.parametrize("name", VARIANTS)
def test_papers_and_licences_are_named(name):
    cfg = shrunk(name).pretrained_cfg
    papers = {
        "msresnet": "2112.08954",
        "spiking": "2011.05280",
        "sew": "2102.04159",
        "resnet_twin": "2112.08954",
    }
    paper = next(papers[prefix] for prefix in papers if name.startswith(prefix))
    assert cfg["paper_ids"] == f"arXiv:{paper}"


@pytest.mark.slow
def test_the_largest_variant_runs_whole():
    model = timm.create_model("msresnet482", num_steps=1).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 8, 8)).shape == (1, 10)
