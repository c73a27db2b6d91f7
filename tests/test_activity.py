"""What is measured equals what is counted by hand, and measuring changes nothing."""

import json
import threading

import pytest
import timm
import torch
from torch import Tensor, nn

import msr_zoo
from msr_zoo.activity import record_activity
from msr_zoo.kernels import reference
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.neurons import LIF


class Tiny(nn.Module):
    """Four pixels, four neurons, three output channels, two classes."""

    def __init__(self, num_steps: int = 4) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.stem = nn.Conv2d(1, 1, 1, bias=False)
        self.lif = LIF()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.fc = nn.Linear(3, 2)
        nn.init.ones_(self.stem.weight)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.stem(x).expand(self.num_steps, *x.shape))
        out = self.conv(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])
        return self.fc(out.mean((0, 3, 4)))


# 0.6 fires at every step; 0.45 at the second and fourth (0.45 + 0.45 / 4 = 0.5625); 0.3 and 0.1
# never, as they approach 0.4 and 0.1333.
PICTURE = torch.tensor([[[[0.6, 0.45], [0.1, 0.3]]]])


def small(**kwargs) -> MSResNet:
    args = {"stem": "3x3", "first_stride": 1, "num_classes": 5, "zero_init_last": False}
    torch.manual_seed(0)
    return MSResNet((1, 1), (2, 4), **{**args, "num_steps": 3, **kwargs}).eval()


def test_four_pixels_counted_by_hand():
    with record_activity(Tiny()) as activity:
        Tiny()  # another model is not watched
        assert activity.pictures == 0
    model = Tiny()
    with record_activity(model) as activity:
        model(PICTURE)
    assert activity.rates["lif"].tolist() == [0.25, 0.5, 0.25, 0.5]
    assert activity.neurons == {"lif": 4}
    assert activity.spikes_per_neuron == 6 / 4
    assert activity.firing_rate == 6 / 16
    operations = activity.operations
    assert list(operations) == ["stem", "conv", "fc"]
    # 4 outputs of 3 channels with 9 taps are 108 MACs; at a mean rate of 6/16 over 4 steps:
    assert (operations["conv"].ac, operations["conv"].mac) == (6 / 16 * 4 * 108, 0)
    assert (operations["stem"].ac, operations["stem"].mac) == (0, 4)
    assert (operations["fc"].ac, operations["fc"].mac) == (0, 6)
    assert activity.total.twin_mac == 4 + 108 + 6
    assert activity.total.joules == pytest.approx(4.6e-12 * 10 + 0.9e-12 * 162)
    assert activity.total.twin_joules == pytest.approx(4.6e-12 * 118)


def test_macs_of_a_network_counted_by_hand():
    model = small()
    with record_activity(model) as activity:
        model(torch.randn(2, 3, 8, 8))
    operations = activity.operations
    macs = {
        "stem.0": 64 * 2 * 3 * 9,
        "layer1.0.conv1": 64 * 2 * 2 * 9,
        "layer1.0.conv2": 64 * 2 * 2 * 9,
        "layer2.0.conv1": 16 * 4 * 2 * 9,
        "layer2.0.conv2": 16 * 4 * 4 * 9,
        "layer2.0.shortcut.0": 16 * 4 * 2,
        "fc": 4 * 5,
    }
    assert {name: o.twin_mac for name, o in operations.items()} == macs
    # Potentials differ from step to step after the first block, so the shortcut runs three times.
    real = {"stem.0": 1, "layer2.0.shortcut.0": 3, "fc": 1}
    assert {name: o.mac / macs[name] for name, o in operations.items() if o.mac} == real
    source = {"conv1": "lif1", "conv2": "lif2"}
    for name, o in operations.items():
        block, _, conv = name.rpartition(".")
        if conv in source:
            rate = activity.rates[f"{block}.{source[conv]}"].mean().item()
            assert o.ac == pytest.approx(rate * 3 * macs[name])


def test_constant_potentials_pass_a_shortcut_once_and_events_pass_the_stem_each_step():
    model = small(first_stride=2)
    with record_activity(model) as still:
        model(torch.randn(1, 3, 8, 8))
    with record_activity(model) as events:
        model(torch.randn(1, 7, 3, 8, 8))
    for name in ("stem.0", "layer1.0.shortcut.0"):
        assert still.operations[name].mac == still.operations[name].twin_mac
        assert events.operations[name].mac == 7 * events.operations[name].twin_mac
    assert events.operations["fc"].mac == 4 * 5
    assert [len(rates) for rates in events.rates.values()] == [7] * 5


def slow_rates(model: MSResNet, x: Tensor) -> dict[str, Tensor]:
    """Rates of `small()` from the equations, the same batch-normalised layers apart."""

    def lif(current: Tensor) -> Tensor:
        return reference.lif(current, 0.25, 0.5, 1.0)

    def each(layer, x: Tensor) -> Tensor:
        return torch.stack([layer(x_t) for x_t in x])

    potential = model.stem(x).repeat(3, 1, 1, 1, 1)
    rates = {}
    for name in ("layer1.0", "layer2.0"):
        block = model.get_submodule(name)
        spikes1 = lif(potential)
        spikes2 = lif(each(block.bn1, each(block.conv1, spikes1)))
        residual = each(block.bn2, each(block.conv2, spikes2))
        potential = each(block.shortcut, potential) + residual
        rates |= {f"{name}.lif1": spikes1, f"{name}.lif2": spikes2}
    return {n: s.mean((1, 2, 3, 4)) for n, s in {**rates, "lif": lif(potential)}.items()}


def test_rates_equal_a_slow_network():
    model = small()
    x = 2 * torch.randn(4, 3, 8, 8)
    with record_activity(model) as activity:
        model(x)
    expected = slow_rates(model, x)
    assert list(activity.rates) == list(expected)
    for name, rates in expected.items():
        torch.testing.assert_close(activity.rates[name], rates, check_dtype=False)
    assert expected["layer2.0.lif2"].sum() > 0
    neurons = {"layer1.0.lif1": 128, "layer1.0.lif2": 128, "layer2.0.lif1": 128}
    assert activity.neurons == {**neurons, "layer2.0.lif2": 64, "lif": 64}
    per_picture = sum(n * activity.rates[name].sum() for name, n in activity.neurons.items())
    assert activity.spikes_per_neuron == pytest.approx(float(per_picture) / 512)
    layer2 = (128 * expected["layer2.0.lif1"] + 64 * expected["layer2.0.lif2"]) / 192
    torch.testing.assert_close(activity.stage_rates["layer2"], layer2, check_dtype=False)
    assert list(activity.stage_rates) == ["layer1", "layer2", "lif"]


def test_calls_are_weighted_by_their_pictures():
    model, x = small(), 2 * torch.randn(7, 3, 8, 8)
    with record_activity(model) as together:
        model(x)
    with record_activity(model) as apart:
        model(x[:2])
        model(x[2:])
    assert apart.pictures == together.pictures == 7
    for name, rates in together.rates.items():
        torch.testing.assert_close(apart.rates[name], rates)
    assert apart.total.ac == pytest.approx(together.total.ac)
    assert apart.total.mac == together.total.mac
    assert apart.spikes_per_neuron == pytest.approx(together.spikes_per_neuron)


def test_recordings_of_different_length():
    model = Tiny(num_steps=2)
    with record_activity(model) as activity:
        model(PICTURE)
        model.num_steps = 4
        model(PICTURE)
    assert activity.rates["lif"].tolist() == [0.25, 0.5, 0.25, 0.5]
    assert activity.spikes_per_neuron == (3 + 6) / 2 / 4
    assert activity.operations["conv"].ac == (3 + 6) / 2 * 27


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_output_and_gradients_are_the_same_bits(training, channels_last, autocast):
    x = torch.randn(2, 3, 16, 16)
    results = []
    for watched in (False, True):
        model = small().train(training)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
            model = model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", enabled=autocast):
            if watched:
                with record_activity(model, keep_spikes=True, keep_currents=True) as activity:
                    out = model(x)
            else:
                out = model(x)
        out.float().sum().backward()
        results.append([out.detach(), *(p.grad for p in model.parameters())])
    for bare, measured in zip(*results, strict=True):
        assert torch.equal(bare, measured)
    spikes = activity.spikes("layer2.0.lif1")
    assert spikes.shape == (3, 2, 2, 16, 16)
    rates = activity.rates["layer2.0.lif1"]
    assert torch.equal(spikes.double().mean((1, 2, 3, 4)), rates)
    assert rates.sum() > 0
    ops = activity.operations["layer2.0.conv1"]
    assert (ops.ac, ops.mac) == (pytest.approx(rates.sum().item() * ops.twin_mac), 0)


def test_an_empty_batch_leaves_no_trace():
    model = small()
    with record_activity(model) as activity:
        model(torch.empty(0, 3, 8, 8))
    assert (activity.pictures, activity.firing_rate, activity.rates) == (0, 0.0, {})
    with pytest.raises(ValueError, match="no picture has passed"):
        activity.as_dict()
    with record_activity(model) as mixed, record_activity(model):
        model(torch.empty(0, 3, 8, 8))
        model(PICTURE.expand(2, 3, -1, -1))
    with record_activity(model) as expected:
        model(PICTURE.expand(2, 3, -1, -1))
    assert mixed.as_dict() == expected.as_dict()


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_computes_again_counts_once(reentrant, monkeypatch):
    monkeypatch.setattr("timm.models._manipulate.use_reentrant_ckpt", lambda: reentrant)
    model = small().train()
    picture = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), record_activity(model) as expected:
        model(picture)
    model.set_grad_checkpointing()
    with record_activity(model) as activity:
        model(picture).sum().backward()
    assert model.stem[0].weight.grad is not None
    assert activity.as_dict() == expected.as_dict()


def test_kept_spikes_and_currents_are_those_of_the_neurons():
    model, x = small(), torch.randn(5, 3, 9, 7)
    seen = []
    with record_activity(model, keep_spikes=True, keep_currents=True) as activity:
        hook = model.layer2[0].lif2.register_forward_hook(lambda _, i, o: seen.append((i[0], o)))
        model(x[:2])
        model(x[2:])
        hook.remove()
    currents, spikes = (torch.cat(parts, 1) for parts in zip(*seen, strict=True))
    assert torch.equal(activity.spikes("layer2.0.lif2"), spikes > 0)
    assert torch.equal(activity.currents("layer2.0.lif2"), currents)
    stem = model.stem(x).detach()
    torch.testing.assert_close(activity.currents("layer1.0.lif1"), stem.expand(3, -1, -1, -1, -1))


def test_what_was_not_kept_is_said():
    model = Tiny()
    with record_activity(model) as activity, pytest.raises(ValueError, match="no picture"):
        _ = activity.total
    with record_activity(model) as activity:
        model(PICTURE)
    with pytest.raises(ValueError, match="keep_spikes=True"):
        activity.spikes("lif")
    with pytest.raises(ValueError, match="keep_currents=True"):
        activity.currents("lif")
    with pytest.raises(KeyError, match="layer9"):
        activity.spikes("layer9")
    events = small(in_chans=2)
    with record_activity(events, keep_spikes=True, keep_currents=True) as activity:
        events(torch.randn(1, 3, 2, 9, 7))
        events(torch.randn(1, 4, 2, 9, 7))
    for kept in (activity.spikes, activity.currents):
        with pytest.raises(ValueError, match="different numbers of steps"):
            kept("layer1.0.lif1")


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_go_when_the_block_ends_or_raises():
    model = Tiny()
    with record_activity(model):
        assert hooks(model) == 4
    assert hooks(model) == 0
    with pytest.raises(RuntimeError), record_activity(model):
        model(torch.zeros(1, 2, 2, 2))
    assert hooks(model) == 0


def test_records_nest():
    model = Tiny()
    with record_activity(model) as outer:
        model(PICTURE)
        with record_activity(model) as inner:
            model(PICTURE)
        model(PICTURE)
    assert (outer.pictures, inner.pictures) == (3, 1)
    assert torch.equal(outer.rates["lif"], inner.rates["lif"])


def test_a_thread_sees_its_own_calls_alone():
    model, counts = Tiny(), []
    inside = threading.Barrier(4)

    def visit(pictures: int) -> None:
        with record_activity(model) as activity:
            inside.wait()
            model(PICTURE.expand(pictures, -1, -1, -1))
            inside.wait()
        counts.append((pictures, activity.pictures))

    threads = [threading.Thread(target=visit, args=(n,)) for n in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_sums_of_spikes_accumulate_and_potentials_multiply():
    class Shortcuts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif, self.sums = LIF(), nn.Conv2d(1, 1, 1, bias=False)
            self.potentials = nn.Conv2d(1, 1, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.lif(x)
            sums = (spikes + spikes).flatten(0, 1)  # as SEW-ResNet adds them
            return self.sums(sums) + self.potentials(x.flatten(0, 1))

    model = Shortcuts()
    with record_activity(model) as activity:
        model(PICTURE.expand(4, 1, 1, 2, 2))
    assert (activity.operations["sums"].ac, activity.operations["sums"].mac) == (12, 0)
    assert (activity.operations["potentials"].ac, activity.operations["potentials"].mac) == (0, 16)


def test_a_network_without_neurons_multiplies_everything_once():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Flatten())
    with record_activity(model) as activity:
        model(torch.ones(2, 3, 4, 4))
    assert activity.pictures == 2
    assert (activity.rates, activity.spikes_per_neuron, activity.firing_rate) == ({}, 0, 0)
    total = activity.total
    assert (total.ac, total.mac, total.twin_mac) == (0, 4 * 4 * 27 + 4 * 5 * 4, 4 * 4 * 27 + 80)


def test_features_and_steps_are_measured_too():
    kwargs = {"features_only": True, "out_indices": (0, 1, 2, 3), "num_steps": 2}
    features = timm.create_model("msresnet20", **kwargs).eval()
    with record_activity(features) as activity:
        features(torch.randn(1, 3, 32, 32))
    assert activity.pictures == 1
    assert any(name.endswith("layer3.2.lif2") for name in activity.rates)
    model, x = small(), torch.randn(2, 3, 8, 8)
    with record_activity(model) as whole:
        model(x)
    with record_activity(model) as steps:
        model.forward_steps(x)
    assert steps.as_dict() == whole.as_dict()


def test_half_precision_counts_do_not_saturate():
    model = nn.Sequential(LIF())
    with record_activity(model) as activity:
        model(torch.ones(2, 1, 5000, dtype=torch.bfloat16))
    assert activity.rates["0"].tolist() == [1, 1]


def test_as_dict_is_json():
    model = small()
    with record_activity(model) as activity:
        model(torch.randn(1, 3, 8, 8))
    told = json.loads(json.dumps(activity.as_dict()))
    assert told["synaptic_operations"]["ac"] == activity.total.ac
    assert told["energy_joules"] == activity.total.joules
    assert told["rates"].keys() == activity.rates.keys()


@pytest.mark.parametrize("name", msr_zoo.list_models())
def test_only_layers_that_see_real_values_multiply(name):
    cfg = msr_zoo.model_info(name)
    stages = 4 if cfg.num_classes == 1000 else 3
    model = msr_zoo.create_model(name, depths=(1,) * stages, num_steps=2).eval()
    with record_activity(model) as activity, torch.no_grad():
        model(torch.randn(1, cfg.input_size[0], 32, 32))
    operations = activity.operations
    convs = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert operations.keys() == convs
    # In MS-ResNet shortcuts carry potentials; in its rivals spikes, or sums of them.
    real = {n for n in convs if n.startswith("stem") or n == "fc"}
    if name.startswith("msresnet"):
        real |= {n for n in convs if ".shortcut." in n}
    elif not activity.rates:
        real = convs
    assert {n for n, o in operations.items() if o.mac} == real
    assert all(o.ac == 0 for n, o in operations.items() if n in real)
