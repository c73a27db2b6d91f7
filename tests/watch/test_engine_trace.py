"""What the page shows of a network is the same whether torch or the engine ran it."""

import copy
import weakref

import pytest
import torch
from test_engine import exact, lively

from msr_zoo.activity import record_activity
from msr_zoo.engine import EventEngine
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.predict import EXAMPLE
from msr_zoo.tally import Tally
from msr_zoo.watch.trace import Source, Trace, trace
from msr_zoo.watch.watcher import Request, Watcher

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")

SOURCE = Source("tiny", trained=False)


def described(model: MSResNet) -> MSResNet:
    model.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "label_names": ()}
    return model


def whole_numbers(model: MSResNet) -> torch.Tensor:
    steps = (4,) if model.in_chans == 2 else ()
    return torch.randint(-8, 9, (1, *steps, model.in_chans, 18, 14)) / 8


@pytest.mark.parametrize("name", ["imagenet", "cifar", "events", "odd"])
def test_every_spike_and_potential_is_that_of_float64_where_float32_is_exact(name):
    with torch.inference_mode():
        model = described(exact(name))
        x = whole_numbers(model)
        steps = None if x.dim() == 5 else 5
        reference = copy.deepcopy(model).double()
        if steps:
            reference.num_steps = steps
        with record_activity(reference, keep_spikes=True, keep_currents=True) as recorded:
            expected = reference.forward_steps(x.double())[:, 0].softmax(-1)
    seen = trace(model, x, SOURCE, steps, (EventEngine(model), Tally(model)))
    assert seen.layers == list(recorded.rates)
    for layer in seen.layers:
        spikes = recorded.spikes(layer)[:, 0]
        assert 0 < spikes.double().mean() < 1
        assert torch.equal(seen.spikes(layer), spikes)
        currents = recorded.currents(layer)
        assert torch.equal(seen.activity.currents(layer).double(), currents)
        # What the page marks as above the threshold is what fired.
        assert torch.equal(seen.potentials(layer) > seen.neurons[layer][1], spikes)
    assert seen.activity.operations == recorded.operations
    torch.testing.assert_close(seen.probabilities.double(), expected, atol=1e-5, rtol=0)


def same(mine: Trace, theirs: Trace) -> float:
    """The least share of equal spikes of a layer."""
    return min(
        float((mine.spikes(layer) == theirs.spikes(layer)).double().mean())
        for layer in theirs.layers
    )


@pytest.mark.parametrize("name", ["imagenet", "pooled", "cifar"])
def test_float32_spikes_agree(name):
    model = described(lively(name).to(memory_format=torch.channels_last))
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    mine, theirs = (
        trace(model, x, SOURCE, 4, (EventEngine(model), Tally(model))),
        trace(model, x, SOURCE, 4),
    )
    assert same(mine, theirs) > 0.999
    assert mine.shapes == theirs.shapes
    assert mine.bytes() == theirs.bytes()
    assert mine.as_dict().keys() == theirs.as_dict().keys()
    for layer in theirs.layers:
        torch.testing.assert_close(
            mine.potentials(layer).mean(), theirs.potentials(layer).mean(), atol=0.01, rtol=0.05
        )


def test_the_page_runs_on_the_engine_where_there_is_one(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("torch ran the network")

    watcher = Watcher(folders=False)
    model, source = watcher.model("msresnet20.cifar10")
    request = Request("msresnet20.cifar10", str(EXAMPLE), steps=3)
    monkeypatch.setattr(MSResNet, "forward_steps", refuse)
    seen = watcher.trace(request)
    monkeypatch.undo()
    assert seen.steps == 3
    x = (seen.seen - torch.tensor(model.pretrained_cfg["mean"])[:, None, None]) / torch.tensor(
        model.pretrained_cfg["std"]
    )[:, None, None]
    by_torch = trace(model, x, source, 3)
    assert same(seen, by_torch) > 0.999
    torch.testing.assert_close(seen.probabilities, by_torch.probabilities, atol=5e-3, rtol=0)


def test_a_model_that_changes_once_the_engine_was_asked_is_traced_by_torch(monkeypatch):
    model = described(lively("cifar"))
    counted = EventEngine(model), Tally(model)
    model.layer1[0].bn2 = torch.nn.GroupNorm(4, 16)
    x = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(EventEngine, "why_not", None)
    with pytest.warns(UserWarning, match="runs through torch"):
        seen = trace(model, x, SOURCE, 2, counted)
    assert seen.as_dict() == trace(model, x, SOURCE, 2).as_dict()


def test_the_page_stands_another_default_dtype():
    request = Request("msresnet20.cifar10", str(EXAMPLE), steps=2)
    loaded, later = Watcher(folders=False), Watcher(folders=False)
    expected = Watcher(folders=False).trace(request)
    loaded.model(request.model)
    torch.set_default_dtype(torch.float64)
    try:
        seen, wide = loaded.trace(request), later.trace(request)
        assert len(seen.flows) == 2
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(seen.probabilities, expected.probabilities)
    # A model that was made meanwhile has weights of that dtype.
    torch.testing.assert_close(
        wide.probabilities, expected.probabilities, atol=0.01, rtol=0, check_dtype=False
    )


def test_a_call_that_torch_runs_keeps_nothing():
    model = lively("cifar")
    engine = EventEngine(model)
    with pytest.raises(ValueError, match="torch runs this call: the input is"):
        engine.run(torch.zeros(1, 3, 8, 8, dtype=torch.float64), keep=True)
    assert not engine.run(torch.zeros(1, 3, 8, 8)).currents


def test_what_was_kept_is_the_callers_alone():
    engine = EventEngine(lively("cifar"))
    run = engine.run(torch.randn(1, 3, 8, 8), keep=True)
    held = weakref.ref(run.currents["lif"])
    assert engine.activity.keys() == run.activity.keys()
    del run
    assert held() is None
