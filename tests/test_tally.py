"""The engine's counts give the activity that hooks on every layer measure."""

import copy

import pytest
import torch
from test_engine import FAMILIES, lively, pictures

from msr_zoo import EventEngine
from msr_zoo.activity import Activity, record_activity
from msr_zoo.kernels import native
from msr_zoo.neurons import LIF
from msr_zoo.tally import Tally


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_the_same_spikes_give_the_same_figures(name):
    model = lively(name)
    inputs = [pictures(model, (20, 17)), pictures(model, (16, 16), batch=1)]
    if name == "events":
        inputs.append(torch.randn(2, 4, 2, 16, 16))
    tally, mine = Tally(model), Activity()
    with record_activity(model) as expected:
        for x in inputs:
            with record_activity(model) as call:
                model(x)
            counts = {name: layer.totals()[0].long() for name, layer in call._neurons.items()}
            tally.add(mine, x.shape, counts)
    assert mine.operations == expected.operations
    assert mine.as_dict() == expected.as_dict()
    assert mine.neurons == expected.neurons


@pytest.mark.skipif(native.library is None, reason="the native library was not built")
@torch.inference_mode()
def test_the_engines_counts_are_the_layers():
    # In channels-last the additions of oneDNN's convolution come in the order of the engine's.
    model = lively("cifar").to(memory_format=torch.channels_last)
    x = pictures(model, (16, 16), batch=3).to(memory_format=torch.channels_last)
    engine, activity = EventEngine(model), Activity()
    Tally(model).add(activity, x.shape, engine.run(x).counts)
    with record_activity(model) as expected:
        model(x)
    assert activity.total.ac == pytest.approx(expected.total.ac, rel=1e-3)
    assert activity.total.mac == expected.total.mac


def test_counts_beyond_float32_are_kept_to_the_last_spike():
    model = lively("cifar", num_steps=1)
    tally, activity = Tally(model), Activity()
    shape = torch.Size((1, 3, 4096, 2048))
    # Of 2**27 neurons; in float32 odd numbers end at 2**24, and a rate loses them sooner.
    some = 2**26 + 1
    names = [n for n, m in model.named_modules() if isinstance(m, LIF)]
    tally.add(activity, shape, {name: torch.tensor([some]) for name in names})
    assert activity.neurons["layer1.0.lif1"] == 2**27
    assert activity.rates["layer1.0.lif1"].tolist() == [some / 2**27]
    assert activity.operations["layer1.0.conv1"].ac == some * 16 * 9


def test_a_call_that_torch_ran_has_nothing_to_add():
    tally = Tally(lively("cifar"))
    with pytest.raises(ValueError, match="no counts of spikes, because torch ran it"):
        tally.add(Activity(), torch.Size((1, 3, 8, 8)), {})


@torch.inference_mode()
def test_parts_that_come_go_or_change_are_counted_as_they_are():
    model = lively("cifar")
    x = pictures(model, (16, 16))
    tally = Tally(model)

    def same() -> None:
        mine = Activity()
        with record_activity(model) as expected:
            model(x)
        counts = {name: layer.totals()[0].long() for name, layer in expected._neurons.items()}
        tally.add(mine, x.shape, counts)
        assert mine.operations == expected.operations
        assert mine.as_dict() == expected.as_dict()

    same()
    model.layer2.append(copy.deepcopy(model.layer3[0]))
    model.layer2[1] = type(model.layer2[0])(32, 32, 1).eval()
    same()
    del model.layer2[1]
    same()
    model.reset_classifier(3)
    same()


def test_a_tally_needs_no_memory():
    model = lively("imagenet")
    shadow = Tally(model)._shadow
    assert all(t.is_meta for t in (*shadow.parameters(), *shadow.buffers()))
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
