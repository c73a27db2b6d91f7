"""An engine that takes its model's weights, so that there is one copy of them."""

import copy
import pickle
import weakref

import pytest
import torch
from test_engine import lively, pictures

from msr_zoo import EventEngine
from msr_zoo.activity import record_activity
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSBlock, MSResNet
from msr_zoo.tally import Tally

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")


def weights_of_spikes(model: MSResNet) -> list[torch.nn.Parameter]:
    blocks = [block for block in model.modules() if isinstance(block, MSBlock)]
    return [conv.weight for block in blocks for conv in (block.conv1, block.conv2)]


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("name", ["cifar", "imagenet", "odd"])
@torch.inference_mode()
def test_answers_stay_and_the_memory_of_the_weights_goes(name, weights):
    model = lively(name)
    x = pictures(model, (19, 33))
    expected = EventEngine(copy.deepcopy(model), weights=weights)(x)
    shapes = [weight.shape for weight in weights_of_spikes(model)]
    storages = [weakref.ref(weight.untyped_storage()) for weight in weights_of_spikes(model)]
    engine = EventEngine(model, weights=weights, frees_weights=True)
    assert not any(storage() for storage in storages)
    # On AMX the other engine may choose events where this one has tiles alone, which round less.
    torch.testing.assert_close(engine(x), expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(engine(x), engine(x), atol=0, rtol=0)
    assert [weight.shape for weight in weights_of_spikes(model)] == shapes
    assert all(weight.is_meta and weight.requires_grad for weight in weights_of_spikes(model))
    assert Tally(model)  # which asks for shapes alone


@torch.inference_mode()
def test_a_silent_and_a_full_layer_go_the_one_way_that_was_packed():
    model = lively("cifar")
    twin = copy.deepcopy(model)
    engine = EventEngine(model, frees_weights=True)
    ways = []
    for scale in (0.0, 100.0):
        x = scale * pictures(twin, (8, 8))
        torch.testing.assert_close(engine(x), EventEngine(twin)(x), atol=1e-3, rtol=1e-3)
        ways.append(dict(engine.paths))
    assert ways[0] == ways[1]


@torch.inference_mode()
def test_what_torch_would_have_to_run_is_refused_in_a_sentence():
    model = lively("cifar")
    x = pictures(model, (8, 8))
    engine = EventEngine(model, frees_weights=True)
    before = engine(x)
    with pytest.raises(RuntimeError, match="given up its weights"):
        engine(x.double())
    with (
        record_activity(model),
        pytest.warns(UserWarning, match="hooks"),
        pytest.raises(RuntimeError, match=r"has hooks.*given up its weights"),
    ):
        engine(x)
    assert torch.equal(engine(x), before)
    for mode in (torch.inference_mode(True), torch.enable_grad()):
        with mode, pytest.raises(RuntimeError, match="call that instead"):
            model(x)
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(engine)


@torch.inference_mode()
def test_other_engines_of_the_model_refuse_it():
    model = lively("cifar")
    x = pictures(model, (8, 8))
    older = EventEngine(model)
    EventEngine(model, frees_weights=True)
    with pytest.warns(UserWarning, match="its weights are an engine's"):
        newer = [EventEngine(model), EventEngine(model, frees_weights=True)]
    with (
        pytest.warns(UserWarning, match="its weights are an engine's"),
        pytest.raises(RuntimeError, match="given up its weights to an engine"),
    ):
        older(x)
    for engine in newer:
        with pytest.raises(RuntimeError, match="given up its weights to an engine"):
            engine(x)


@torch.inference_mode()
def test_a_change_that_is_undone_finds_the_weights_again():
    model = lively("cifar")
    x = pictures(model, (8, 8))
    engine = EventEngine(model, frees_weights=True)
    before = engine(x)
    model.train()
    assert engine.why_not
    model.eval()
    assert torch.equal(engine(x), before)


@torch.inference_mode()
def test_new_weights_are_taken_too():
    model = lively("cifar")
    x = pictures(model, (8, 8))
    engine = EventEngine(model, frees_weights=True)
    other = lively("cifar")
    for weight in weights_of_spikes(other):
        weight.mul_(-1.0)
    expected = EventEngine(copy.deepcopy(other))(x)
    state = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    model.load_state_dict(state, assign=True)
    torch.testing.assert_close(engine(x), expected, atol=1e-3, rtol=1e-3)
    assert all(weight.is_meta for weight in weights_of_spikes(model))


def test_a_change_without_new_weights_is_refused_in_a_sentence():
    model = lively("cifar")
    engine = EventEngine(model, frees_weights=True)
    model.layer1[0].bn1.running_mean.add_(0.3)
    with (
        pytest.warns(UserWarning, match="its weights are an engine's"),
        pytest.raises(RuntimeError, match="given up its weights"),
    ):
        engine(pictures(model, (8, 8)))


def test_shared_weights_are_refused_and_none_is_freed():
    model = lively("imagenet")
    model.layer2[1].conv1.weight = model.layer2[1].conv2.weight
    with pytest.raises(ValueError, match="two layers share"):
        EventEngine(model, frees_weights=True)
    assert not any(weight.is_meta for weight in weights_of_spikes(model))


def test_weights_that_torch_itself_would_read_are_kept():
    model = lively("cifar")
    model.layer2[0].conv1.__class__ = torch.nn.Conv2d
    with pytest.raises(ValueError, match="only a SpikeConv2d"):
        EventEngine(model, frees_weights=True)
    assert not any(weight.is_meta for weight in weights_of_spikes(model))


def test_a_model_that_torch_runs_keeps_its_weights():
    model = lively("cifar").double()
    x = pictures(model, (8, 8)).double()
    with pytest.warns(UserWarning, match="runs through torch"):
        engine = EventEngine(model, frees_weights=True)
    torch.testing.assert_close(engine(x), model(x))
