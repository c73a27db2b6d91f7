"""Answers and their activity are the same whether torch or the engine ran the model."""

from collections.abc import Iterator

import pytest
import torch
from test_predict import moving_dot

import msr_zoo
from msr_zoo.engine import EngineRun, EventEngine
from msr_zoo.event_input import EventInput
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.predict import EXAMPLE, Predictor

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")


def firing(name: str) -> MSResNet:
    torch.manual_seed(0)
    return msr_zoo.create_model(name, num_steps=2, zero_init_last=False)


@pytest.mark.parametrize("name", ["msresnet20", "sew_resnet20"])
@pytest.mark.parametrize("keep_spikes", [False, True])
def test_a_model_in_training_mode_is_neither_asked_nor_changed(name, keep_spikes):
    model = msr_zoo.create_model(name, depths=(1, 1, 1), num_steps=1)
    predictor = Predictor(model)
    before = model.stem[1].running_mean.clone()
    for part in (model, model.stem[1]):
        part.train()
        with pytest.raises(ValueError, match=r"in (training|evaluation) mode: call model\.eval"):
            predictor(EXAMPLE, keep_spikes=keep_spikes)
        model.eval()
    assert torch.equal(model.stem[1].running_mean, before)
    assert predictor(EXAMPLE, keep_spikes=keep_spikes).labels


@pytest.fixture
def wide_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_model_that_changes_once_the_engine_was_asked_is_measured_by_torch(monkeypatch):
    model = firing("msresnet20")
    predictor = Predictor(model)
    model.layer1[0].bn2 = torch.nn.GroupNorm(4, 16)
    expected = predictor(EXAMPLE)
    monkeypatch.setattr(EventEngine, "why_not", None)
    with pytest.warns(UserWarning, match="runs through torch"):
        assert predictor(EXAMPLE).as_dict() == expected.as_dict()


def test_windows_of_a_recording_that_torch_and_the_engine_share(monkeypatch):
    monkeypatch.setattr("msr_zoo.predict.BATCH", 1)
    recorder = Predictor(firing("msresnet20_dvs"))
    recorder.event_input = EventInput(window_us=100_000, num_steps=4, size=(24, 32))
    events = moving_dot()
    by_torch = recorder(events, keep_spikes=True).activity
    run, calls = EventEngine.run, iter((True, False))
    monkeypatch.setattr(
        EventEngine,
        "run",
        lambda self, x: run(self, x) if next(calls) else EngineRun(logits=self.model(x)),
    )
    shared = recorder(events).activity
    assert shared.pictures == by_torch.pictures == 2
    assert shared.neurons == by_torch.neurons
    assert shared.total.mac == by_torch.total.mac
    assert shared.total.ac == pytest.approx(by_torch.total.ac, rel=1e-3)


@pytest.mark.parametrize("keep_spikes", [False, True])
def test_another_default_dtype_changes_no_answer(keep_spikes, request):
    predictor = Predictor(firing("msresnet20"))
    expected = predictor(EXAMPLE, keep_spikes=keep_spikes).as_dict()
    request.getfixturevalue("wide_default")
    assert predictor(EXAMPLE, keep_spikes=keep_spikes).as_dict() == expected


def test_a_model_of_another_dtype_gets_pictures_of_that(wide_default):
    assert len(Predictor(firing("msresnet20"))(EXAMPLE).labels) == 5
