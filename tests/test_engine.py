"""The engine against the model that it runs."""

import copy
import json
import threading
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

import msr_zoo
from msr_zoo import EventEngine, event_blocks
from msr_zoo.activity import record_activity
from msr_zoo.event_memory import Shelf
from msr_zoo.kernels import native, packing
from msr_zoo.models.ms_resnet import MSResNet

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")

KINDS = get_args(event_blocks.WeightsKind)
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
# Shrunk copies of each family: the channels, stems, shortcuts and strides of the real ones.
FAMILIES = {
    "imagenet": {"depths": (1, 2), "channels": (64, 128)},
    "cifar": {"depths": (1, 1, 1), "channels": (16, 32, 64), "stem": "3x3", "first_stride": 1},
    "events": {"depths": (1, 1), "channels": (16, 32), "stem": "3x3s2", "in_chans": 2},
    "pooled": {"depths": (2, 1), "channels": (64, 128), "stem": "deep", "pool_shortcut": True},
    "odd": {"depths": (1, 1), "channels": (20, 70), "stem": "3x3", "first_stride": 1},
}


def lively(name: str, **kwargs: object) -> MSResNet:
    """A shrunk network with random batch norms that fires at every layer."""
    torch.manual_seed(0)
    model = MSResNet(**{**FAMILIES[name], "num_classes": 7, "num_steps": 3, **kwargs})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.8)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def all_by(path: event_blocks.Path):
    """A way for every layer, where it is one: only narrow layers have tables."""
    return lambda layer, _: "events" if path == "tables" and not layer.narrow else path


def pictures(model: MSResNet, size: tuple[int, int], batch: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, model.in_chans, *size)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (19, 33)])
@torch.inference_mode()
def test_logits_and_rates_are_the_models(name, size):
    # In channels-last the additions of oneDNN's convolution come in the order of the engine's.
    model = lively(name).to(memory_format=torch.channels_last)
    x = pictures(model, size).to(memory_format=torch.channels_last)
    engine = EventEngine(model)
    with record_activity(model) as recorded:
        expected = model(x)
    torch.testing.assert_close(engine(x), expected, atol=1e-3, rtol=1e-3)
    assert engine.activity.keys() == recorded.rates.keys()
    for layer, rates in engine.activity.items():
        torch.testing.assert_close(
            rates, recorded.rates[layer], atol=5e-3, rtol=0, check_dtype=False
        )


@torch.inference_mode()
def test_events_bring_their_own_steps():
    model = lively("events")
    x = torch.randn(2, 5, 2, 17, 12)
    engine = EventEngine(model)
    torch.testing.assert_close(engine(x), model(x), atol=1e-3, rtol=1e-3)
    assert all(len(rates) == 5 for rates in engine.activity.values())


@torch.inference_mode()
def test_dense_and_event_driven_layers_agree(monkeypatch):
    for name in ("cifar", "imagenet", "odd"):
        model = lively(name)
        x = pictures(model, (20, 20))
        engine = EventEngine(model)
        got = {}
        for path in get_args(event_blocks.Path):
            monkeypatch.setattr(event_blocks.SpikeLayer, "path", all_by(path))
            got[path] = engine(x)
            if path == "tables":  # which narrow layers alone have
                taken = {"cifar": {"tables", "events"}}.get(name, {"events"})
            else:
                taken = {path}
            assert set(engine.paths.values()) == taken
        for other in got.values():
            torch.testing.assert_close(other, got["events"], atol=1e-3, rtol=1e-3)


def exact(name: str) -> MSResNet:
    """A lively network whose every potential is a multiple of 2**-20 that float32 holds."""
    model = lively(name)
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(torch.randint(-2, 3, module.weight.shape) / 8)
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.running_mean.zero_()
            module.running_var.fill_(1.0)
            module.weight.copy_(torch.randint(1, 3, module.weight.shape) / 4)
            module.bias.copy_(torch.randint(-2, 3, module.bias.shape) / 8)
    return model


@pytest.mark.parametrize("name", ["imagenet", "cifar", "events", "odd"])
@torch.inference_mode()
def test_every_spike_is_that_of_float64_where_float32_is_exact(monkeypatch, name):
    model = exact(name)
    x = torch.randint(-8, 9, (2, model.in_chans, 18, 14)) / 8
    reference = copy.deepcopy(model).double()
    with record_activity(reference) as recorded:
        expected = reference(x.double())
    # One spike more or less would move a rate of these small layers by more than 1e-5.
    same = {"rtol": 0, "atol": 1e-6, "check_dtype": False}
    engine = EventEngine(model)
    for level, isa in enumerate(native.ISAS):
        if native.select_isa(level) != level:
            continue
        for path in get_args(event_blocks.Path):
            monkeypatch.setattr(event_blocks.SpikeLayer, "path", all_by(path))
            logits = engine(x)
            for layer, rates in engine.activity.items():
                assert 0 < rates.mean() < 1, layer
                torch.testing.assert_close(
                    rates, recorded.rates[layer], **same, msg=f"{layer} {path} {isa}"
                )
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_bytes_are_the_models_weights_rounded(monkeypatch, name):
    model = lively(name)
    x = pictures(model, (20, 20))
    copies = {path: copy.deepcopy(model) for path in get_args(event_blocks.Path)}
    engines = {path: EventEngine(model, weights="int8") for path, model in copies.items()}
    for module_name, module in model.named_modules():
        if module_name.endswith((".conv1", ".conv2")):
            units, unit = packing.quantise(module.weight)
            module.weight.copy_(units * unit[:, None, None, None])
    expected = model(x)
    got = {}
    for path, engine in engines.items():
        monkeypatch.setattr(event_blocks.SpikeLayer, "path", all_by(path))
        got[path] = engine(x)
        torch.testing.assert_close(got[path], expected, atol=1e-3, rtol=1e-3)
    # Sums of bytes are exact, so every way gives the same spikes.
    assert all(torch.equal(got[path], got["events"]) for path in got)


@torch.inference_mode()
def test_parts_of_a_batch_and_calls_that_repeat(monkeypatch):
    model = lively("cifar")
    x = pictures(model, (16, 16), batch=5)
    engine = EventEngine(model)
    whole, rates = engine(x), engine.activity
    monkeypatch.setattr("msr_zoo.engine.PART_BYTES", 2 * 3 * 16 * 16 * 16 * 4)
    torch.testing.assert_close(engine(x), whole)
    for layer, rate in engine.activity.items():
        torch.testing.assert_close(rate, rates[layer])
    # Twice the steps make parts of half the size.
    batches = []
    borrow = Shelf.borrow

    def seen(self, steps, stem):
        batches.append(stem[1])
        return borrow(self, steps, stem)

    monkeypatch.setattr(Shelf, "borrow", seen)
    engine.run(x, steps=6)
    assert batches == [1] * 5
    engine(pictures(model, (9, 9)))
    torch.testing.assert_close(engine(x), whole)


@torch.inference_mode()
def test_threads_share_an_engine():
    model = lively("cifar")
    inputs = [pictures(model, (12, 12)) * scale for scale in (0.5, 1.0, 2.0, 3.0)]
    engine = EventEngine(model)
    expected = [engine(x) for x in inputs]
    got: dict[int, torch.Tensor] = {}

    def work(index: int) -> None:
        for _ in range(5):
            got[index] = engine(inputs[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[i], expected[i]) for i in range(len(inputs)))


def test_other_models_run_through_torch_with_one_warning():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    with pytest.warns(UserWarning, match="Sequential is no MSResNet"):
        engine = EventEngine(model)
    x = torch.randn(2, 3, 2, 2)
    assert torch.equal(engine(x), model(x))
    assert engine.activity == {}


def test_a_model_in_training_mode_is_refused():
    model = msr_zoo.create_model("msresnet20").train()
    with pytest.raises(ValueError, match=r"call model\.eval"):
        EventEngine(model)(torch.zeros(1, 3, 32, 32))


def test_the_rate_and_the_processor_choose_the_path():
    wide, narrow = (
        event_blocks.prepare(lively(name), weights)[1].conv2
        for name, weights in (("imagenet", "float32"), ("cifar", "int8"))
    )
    narrowest = [event_blocks.prepare(lively("cifar"), kind)[0].conv2 for kind in KINDS]
    try:
        for level, isa in enumerate(native.ISAS[:-1]):
            if native.select_isa(level) == level:
                dense = "events" if isa == "portable" else "onednn"
                assert [wide.path(rate) for rate in (0.0, 0.3, 0.99)] == ["events", "events", dense]
                assert [narrow.path(rate) for rate in (0.0, 0.3, 0.99)] == ["events"] * 3
                for least in narrowest:
                    above = event_blocks.TABLES_ABOVE[least.kind]
                    ways = [least.path(rate) for rate in (0.0, above, above + 0.01, 0.99)]
                    assert ways == ["events", "events", "tables", "tables"]
        if native.select_isa(len(native.ISAS) - 1) == native.ISAS.index("amx"):
            assert [wide.path(rate) for rate in (0.0, 0.01, 0.3)] == ["events", "events", "tiles"]
            assert [narrow.path(rate) for rate in (0.0, 0.01, 0.3)] == ["events", "tiles", "tiles"]
    finally:
        native.select_isa(len(native.ISAS) - 1)


def test_the_thresholds_are_those_that_were_measured():
    measured = json.loads((RESULTS / "engine_paths.json").read_text())["rows"]
    for kind, above in event_blocks.TABLES_ABOVE.items():
        narrow = [row["layers"]["16"][kind] for row in measured.values()]
        crossing = max(row["events_up_to_tables"] for row in narrow)
        assert crossing - 0.02 < above <= max(crossing, 0.02), kind  # the least rate measured
    assert measured.keys() == event_blocks.ONEDNN_ABOVE.keys()
    for isa, above in event_blocks.ONEDNN_ABOVE.items():
        layers = measured[isa]["layers"].values()
        crossing = min(layer["float32"]["events_up_to_onednn"] for layer in layers)
        assert crossing - 0.1 < above <= crossing, isa
        assert all(layer["int8"]["events_up_to_onednn"] == 1.0 for layer in layers), isa


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match=r"weights must be one of .*got 'int4'"):
        EventEngine(lively("cifar"), weights="int4")


def test_a_wrong_input_gets_the_models_own_error():
    engine = EventEngine(lively("cifar"))
    for shape in ((1, 4, 32, 32), (5,), (3, 3), (1, 1, 1, 3, 8, 8)):
        with pytest.raises(ValueError, match="input must be"):
            engine(torch.zeros(shape))


def test_steps_that_cannot_be_shown_and_spikes_that_were_not_kept_are_refused():
    engine, x = EventEngine(lively("cifar")), torch.zeros(1, 3, 8, 8)
    for steps, images in ((0, x), (-1, x), (2, x[None])):
        with pytest.raises(ValueError, match=f"at least 1, and are of pictures alone, got {steps}"):
            engine.run(images, steps=steps)
    with pytest.raises(ValueError, match="keep=True"):
        engine.run(x).spikes("lif")


@torch.inference_mode()
def test_other_users_of_the_processors_tiles_are_left_alone():
    # oneDNN multiplies bfloat16 on AMX too, where there is one.
    torch.manual_seed(0)
    x, weight = torch.randn(4, 64, 14, 14).bfloat16(), torch.randn(64, 64, 3, 3).bfloat16()
    model = lively("imagenet")
    engine, pixels = EventEngine(model, weights="int8"), pictures(model, (16, 16))
    before, logits = nn.functional.conv2d(x, weight), engine(pixels)
    for _ in range(3):
        assert torch.equal(nn.functional.conv2d(x, weight), before)
        assert torch.equal(engine(pixels), logits)


def test_autocast_around_the_engine_changes_nothing():
    model = msr_zoo.create_model("msresnet20", num_classes=10, zero_init_last=False).eval()
    engine, images = EventEngine(model), torch.randn(2, 3, 32, 32)
    expected = engine(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(engine(images), expected)


def test_autocast_reaches_what_torch_runs():
    model = lively("cifar")
    model.layer1[0].bn2 = nn.GroupNorm(4, 16)
    with pytest.warns(UserWarning, match="runs through torch"):
        engine = EventEngine(model)
    x = pictures(model, (12, 12))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
        got = engine(x)
    assert expected.dtype == got.dtype == torch.bfloat16
    assert torch.equal(got, expected)
