"""The engine's counts give the activity that hooks on every layer measure."""

import pytest
import torch
from test_engine import FAMILIES, lively, pictures

from msr_zoo import EventEngine
from msr_zoo.activity import Activity, record_activity
from msr_zoo.kernels import native
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
            tally.add(mine, x.shape, {name: rate.float() for name, rate in call.rates.items()})
    assert mine.operations == expected.operations
    assert mine.as_dict() == expected.as_dict()
    assert mine.neurons == expected.neurons


@pytest.mark.skipif(native.library is None, reason="the native library was not built")
@torch.inference_mode()
def test_the_engines_rates_are_counts():
    # In channels-last the additions of oneDNN's convolution come in the order of the engine's.
    model = lively("cifar").to(memory_format=torch.channels_last)
    x = pictures(model, (16, 16), batch=3).to(memory_format=torch.channels_last)
    engine, activity = EventEngine(model), Activity()
    engine(x)
    Tally(model).add(activity, x.shape, engine.activity)
    with record_activity(model) as expected:
        model(x)
    assert activity.total.ac == pytest.approx(expected.total.ac, rel=1e-3)
    assert activity.total.mac == expected.total.mac


def test_a_tally_needs_no_memory():
    model = lively("imagenet")
    shadow = Tally(model)._shadow
    assert all(t.is_meta for t in (*shadow.parameters(), *shadow.buffers()))
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
