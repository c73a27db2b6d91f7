"""What `msr-zoo bench` compares is what it says, and everyone takes turns."""

import time

import pytest
import torch
from test_engine import FAMILIES, lively, pictures

import msr_zoo
from msr_zoo.activity import record_activity
from msr_zoo.bench.contestants import contestants, convolution_calls, folded, twin
from msr_zoo.bench.inputs import calibrate, sample
from msr_zoo.bench.measure import compare, interleaved


@torch.inference_mode()
def test_the_twin_is_the_registered_one():
    torch.manual_seed(0)
    model = msr_zoo.create_model("msresnet20", zero_init_last=False).eval()
    registered = msr_zoo.create_model("resnet_twin20").eval()
    registered.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    expected = registered(x)
    assert torch.equal(twin(model)(x), expected)
    torch.testing.assert_close(folded(twin(model))(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_folding_keeps_the_output_and_leaves_no_norm(name):
    model = twin(lively(name))
    net = folded(model)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    x = pictures(model, (19, 17))
    torch.testing.assert_close(net(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_bare_convolutions_are_all_of_them(name):
    model = lively(name)
    x = pictures(model, (16, 16))
    with record_activity(model) as activity:
        model(x)
    convs = {n: op.twin_mac for n, op in activity.operations.items() if n != "fc"}
    steps = {n: layer.images // len(x) for n, layer in activity._weights.items()}
    calls = convolution_calls(model, x)
    macs = 0
    for conv, shape in calls:
        out = torch.nn.functional.conv2d(
            torch.empty(shape), conv.weight, None, conv.stride, conv.padding
        )
        macs += out.numel() * conv.weight[0].numel()
    assert len(calls) == len(convs)
    assert macs == sum(len(x) * steps[n] * mac for n, mac in convs.items())


@torch.inference_mode()
def test_calibrated_layers_fire_at_the_rate():
    model = lively("cifar", num_steps=4)
    x = pictures(model, (16, 16))
    calibrate(model, x, 0.15)
    with record_activity(model) as activity:
        model(x)
    for rate in activity.rates.values():
        assert float(rate.mean()) == pytest.approx(0.15, abs=0.01)


def test_samples_are_what_the_model_takes():
    for name in ("msresnet20", "msresnet20_dvs"):
        model = msr_zoo.create_model(name).eval()
        x = sample(model, 3)
        assert model(x).shape == (3, 10)
        assert not torch.equal(x[0], x[1])
        assert torch.equal(x, sample(model, 3))


def test_everyone_takes_turns():
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = interleaved(runs, 4)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert all(len(t) == 4 for t in times.values())
    calls.clear()
    assert len(interleaved(runs, 100, seconds=0.0)["a"]) == 3


def test_the_faster_layout_counts():
    entries = {
        "two": {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.002)},
        "one": {"": lambda: time.sleep(0.01)},
    }
    two, one = compare(entries, rounds=3)
    assert (two.name, two.layout, two.n) == ("two", "fast", 3)
    assert 2 <= two.min_ms <= two.median_ms <= two.max_ms
    assert one.median_ms >= 10


@torch.inference_mode()
def test_every_layout_of_a_contestant_computes_the_same():
    model = lively("cifar")
    x = pictures(model, (16, 16))
    entries = contestants(model, x)
    logits = model(x)
    for run in entries["torch, float32"].values():
        torch.testing.assert_close(run(), logits, atol=0.1, rtol=0.1)
    plain = twin(model)(x)
    for run in entries["non-spiking twin, float32"].values():
        torch.testing.assert_close(run(), plain, atol=1e-3, rtol=1e-3)
    for run in entries["non-spiking twin, bfloat16"].values():
        torch.testing.assert_close(run().float(), plain, atol=0.2, rtol=0.2)


@torch.inference_mode()
def test_spikingjelly_is_the_same_network():
    pytest.importorskip("spikingjelly")
    from msr_zoo.bench.spikingjelly import SpikingJelly

    torch.manual_seed(0)
    model = msr_zoo.create_model("msresnet20", num_steps=2, zero_init_last=False).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(SpikingJelly(model).double()(x), model(x))
    torch.testing.assert_close(folded(SpikingJelly(model).double())(x), model(x))
