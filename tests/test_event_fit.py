"""Which models the engine runs itself: what it does not know goes through torch, with a warning."""

import copy

import pytest
import torch
from test_engine import lively, pictures
from timm.layers import SelectAdaptivePool2d
from torch import nn

from msr_zoo import EventEngine
from msr_zoo.event_fit import Stamp, why_not
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.neurons import LIF

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")


def grouped(model: MSResNet) -> None:
    model.layer1[0].conv2 = nn.Conv2d(16, 16, 3, 1, 1, groups=2, bias=False)


def with_bias(model: MSResNet) -> None:
    model.layer1[0].conv1 = nn.Conv2d(16, 16, 3, 1, 1, bias=True)


def dilated(model: MSResNet) -> None:
    model.layer1[0].conv1 = nn.Conv2d(16, 16, 3, 1, 2, dilation=2, bias=False)


def wide_kernel(model: MSResNet) -> None:
    model.layer1[0].conv1 = nn.Conv2d(16, 16, 5, 1, 2, bias=False)


def mirrored(model: MSResNet) -> None:
    model.layer1[0].conv1 = nn.Conv2d(16, 16, 3, 1, 1, bias=False, padding_mode="reflect")


def unequal_strides(model: MSResNet) -> None:
    model.layer2[0].conv1 = nn.Conv2d(16, 32, 3, (2, 1), 1, bias=False)
    model.layer2[0].shortcut[0] = nn.Conv2d(16, 32, 1, (2, 1), bias=False)


def wide_shortcut(model: MSResNet) -> None:
    model.layer2[0].shortcut[0] = nn.Conv2d(16, 32, 3, 2, 1, bias=False)


def shortcut_with_bias(model: MSResNet) -> None:
    model.layer2[0].shortcut[0] = nn.Conv2d(16, 32, 1, 2)


def parametrised(model: MSResNet) -> None:
    torch.nn.utils.parametrizations.weight_norm(model.layer1[0].conv1)


def norm_of_batches(model: MSResNet) -> None:
    model.layer1[0].bn1 = nn.BatchNorm2d(16, track_running_stats=False)


def norm_without_scale(model: MSResNet) -> None:
    model.layer1[0].bn1 = nn.BatchNorm2d(16, affine=False).eval()


def group_norm(model: MSResNet) -> None:
    model.layer1[0].bn2 = nn.GroupNorm(4, 16)


def trained_norm(model: MSResNet) -> None:
    model.layer1[0].bn2.train()


def wide_statistics(model: MSResNet) -> None:
    model.layer1[0].bn1.running_mean = torch.full((16,), torch.inf)


class DoubledLIF(LIF):
    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(current)


def other_neurons(model: MSResNet) -> None:
    model.layer1[0].lif2 = DoubledLIF()


def other_pool(model: MSResNet) -> None:
    model.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def pool_of_quarters(model: MSResNet) -> None:
    model.global_pool = SelectAdaptivePool2d(2, "avg", flatten=True)
    model.fc = nn.Identity()


def pool_that_keeps_pixels(model: MSResNet) -> None:
    model.global_pool = SelectAdaptivePool2d(1, "avg", flatten=False)
    model.fc = nn.Identity()


UNKNOWN = [
    grouped,
    with_bias,
    dilated,
    wide_kernel,
    mirrored,
    unequal_strides,
    wide_shortcut,
    shortcut_with_bias,
    parametrised,
    norm_of_batches,
    norm_without_scale,
    group_norm,
    trained_norm,
    wide_statistics,
    other_neurons,
    other_pool,
    pool_of_quarters,
    pool_that_keeps_pixels,
]


@pytest.mark.parametrize("change", UNKNOWN, ids=lambda change: change.__name__)
def test_what_the_engine_does_not_know_runs_through_torch_with_one_warning(change):
    model = lively("cifar")
    x = pictures(model, (12, 12))
    expected = copy.deepcopy(model)
    followed = EventEngine(model)
    change(model)
    change(expected)
    expected.load_state_dict(model.state_dict())
    with pytest.warns(UserWarning, match="runs through torch, because") as caught:
        made = EventEngine(model)
    assert len(caught) == 1
    logits, wanted = made(x), expected(x)
    torch.testing.assert_close(logits, wanted, equal_nan=True)
    with pytest.warns(UserWarning, match="runs through torch, because"):
        assert torch.equal(followed(x).nan_to_num(), logits.nan_to_num())


def test_a_model_that_was_pruned_to_its_stem_runs_through_torch():
    model = lively("cifar")
    model.prune_intermediate_layers([0])
    model.reset_classifier(10, "avg")
    with pytest.warns(UserWarning, match="because it has no blocks"):
        engine = EventEngine(model)
    x = pictures(model, (8, 8))
    assert torch.equal(engine(x), model(x))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("layer2.0.conv1", "stride", (3, 3)),
        ("layer2.0.conv1", "padding", (0, 0)),
        ("layer2.0.conv1", "padding_mode", "reflect"),
        ("layer2.0.conv1", "dilation", (2, 2)),
        ("layer2.0.conv1", "groups", 2),
        ("layer2.0.shortcut.0", "kernel_size", 3),
        ("layer2.0.shortcut.0", "ceil_mode", False),
        ("global_pool", "pool_type", "max"),
    ],
)
def test_settings_of_a_part_are_noticed(name, setting, value):
    model = lively("pooled" if "shortcut" in name else "cifar")
    engine = EventEngine(model)
    assert engine.why_not is None
    setattr(model.get_submodule(name), setting, value)
    assert engine.why_not


def test_every_variant_fits():
    for name in ("imagenet", "cifar", "events", "pooled", "odd"):
        assert why_not(lively(name)) is None
        assert why_not(lively(name).train()) is None
        assert Stamp(lively(name)).holds()


@pytest.mark.parametrize("pre", [False, True])
@torch.inference_mode()
def test_hooks_on_all_modules_are_called_while_they_are_there(pre):
    model = lively("cifar")
    engine, x = EventEngine(model), pictures(model, (9, 9))
    called: list[nn.Module] = []
    modules = torch.nn.modules.module
    register = (
        modules.register_module_forward_pre_hook if pre else modules.register_module_forward_hook
    )
    handle = register(lambda module, *_: called.append(module))
    try:
        with pytest.warns(UserWarning, match="there are hooks on all modules, which the engine"):
            engine(x)
        assert model.layer1[0].conv1 in called
    finally:
        handle.remove()
    called.clear()
    engine(x)
    assert engine.why_not is None
    assert model.layer1[0].conv1 not in called
