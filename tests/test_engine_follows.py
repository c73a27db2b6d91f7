"""The engine goes with its model: weights that change, buffers, threads."""

import copy
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_engine import all_by, lively, pictures
from torch import nn

from msr_zoo import EventEngine, event_memory
from msr_zoo.activity import record_activity
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSResNet

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")


def optimiser_step(model: MSResNet) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    model(torch.randn(4, 3, 12, 12)).square().sum().backward()
    optimizer.step()
    model.eval()


def one_weight(model: MSResNet) -> None:
    with torch.no_grad():
        model.layer2[0].conv1.weight.mul_(-1.0)


def other_data(model: MSResNet) -> None:
    weight = model.layer1[0].conv2.weight
    weight.data = weight.data.flip(0)


def other_parameter(model: MSResNet) -> None:
    conv = model.layer3[0].conv2
    conv.weight = nn.Parameter(conv.weight.detach().flip(0))


def other_module(model: MSResNet) -> None:
    model.layer2[0].bn1 = copy.deepcopy(model.layer2[0].bn2)


def another_block(model: MSResNet) -> None:
    model.layer1.append(copy.deepcopy(model.layer1[0]))


def running_statistics(model: MSResNet) -> None:
    model.layer1[0].bn1.running_mean.add_(0.3)


def state_dict(model: MSResNet) -> None:
    model.load_state_dict(
        {k: v.flip(0) if v.dim() == 4 else v for k, v in lively("cifar").state_dict().items()}
    )


def round_trip(model: MSResNet) -> None:
    model.bfloat16().float()


def threshold(model: MSResNet) -> None:
    model.layer2[0].lif2.threshold = 0.9


def stride(model: MSResNet) -> None:
    model.layer2[0].conv1.stride = (1, 1)
    model.layer2[0].shortcut[0].stride = (1, 1)


CHANGES = [
    stride,
    optimiser_step,
    one_weight,
    other_data,
    other_parameter,
    other_module,
    another_block,
    running_statistics,
    state_dict,
    round_trip,
    threshold,
]


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_engine_follows_its_model(change, weights):
    model = lively("cifar")
    x = pictures(model, (12, 12), batch=4)
    engine = EventEngine(model, weights=weights)
    before = engine(x)
    change(model)
    after = engine(x)
    assert not torch.equal(after, before)
    assert torch.equal(after, EventEngine(model, weights=weights)(x))
    if weights == "float32":
        torch.testing.assert_close(after, model(x), atol=1e-3, rtol=1e-3)


class _Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "stem",
    [
        lambda own: _Doubled(*own),
        lambda own: nn.Sequential(own, nn.BatchNorm2d(own[0].out_channels)),
        lambda own: own[0],
        lambda own: nn.Sequential(own[0]),
    ],
    ids=["subclass", "nested", "bare convolution", "without a norm"],
)
def test_a_stem_of_another_kind_is_run_as_it_is(stem):
    model = lively("cifar")
    model.stem = stem(model.stem).eval()
    x = pictures(model, (16, 16))
    engine = EventEngine(model)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(engine(x), model(x))


def test_hooks_are_called_while_they_are_there_and_cost_no_preparation():
    model = lively("cifar")
    x = pictures(model, (12, 12))
    engine = EventEngine(model)
    expected, blocks = engine(x), engine._prepared.blocks
    handle = model.layer2[0].lif2.register_forward_hook(lambda *args: torch.zeros_like(args[2]))
    with pytest.warns(UserWarning, match=r"because layer2\.0\.lif2 has hooks, which the engine"):
        run = engine.run(x)
    assert torch.equal(run.logits, model(x))
    assert not torch.equal(run.logits, expected)
    handle.remove()
    pre = model.layer1[0].bn1.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    assert str(engine.why_not).startswith("layer1.0.bn1 has hooks")
    pre.remove()
    model.fc.forward = lambda x: x
    assert str(engine.why_not).startswith("fc has a forward of its own")
    del model.fc.forward
    assert engine.why_not is None
    assert torch.equal(engine(x), expected)
    assert engine._prepared.blocks is blocks


@pytest.mark.parametrize(
    ("part", "method"),
    [
        ("", "forward_head"),
        ("", "forward_features"),
        ("", "_stage"),
        ("layer1.0", "branch"),
        ("layer2.0", "dropped"),
    ],
)
def test_methods_of_an_instance_are_called(part, method):
    model = lively("cifar")
    x = pictures(model, (12, 12))
    engine = EventEngine(model)
    module = model.get_submodule(part)
    plain = getattr(module, method)
    module.__dict__[method] = lambda *args: 2 * plain(*args)
    reason = f"{part or 'it'} has a {method} of its own"
    with pytest.warns(UserWarning, match=reason), torch.inference_mode():
        assert torch.equal(engine(x), model(x))


def test_what_one_thread_records_leaves_the_others_to_the_engine():
    model = lively("cifar")
    x = pictures(model, (12, 12))
    engine = EventEngine(model)
    expected = engine(x)
    with record_activity(model) as recorded, ThreadPoolExecutor(1) as pool:
        run = pool.submit(engine.run, x).result()
        assert run.counts.keys() == engine.activity.keys() != set()
        assert torch.equal(run.logits, expected)
        with pytest.warns(UserWarning, match="has hooks"):
            engine(x)
    assert recorded.pictures == len(x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_of_an_engine_has_a_model_of_its_own(copied):
    engine = EventEngine(lively("cifar"), weights="int8")
    x = pictures(engine.model, (12, 12))
    other = copied(engine)
    expected = engine(x)
    one_weight(engine.model)
    assert other.weights == "int8"
    assert torch.equal(other(x), expected)


def test_what_has_not_changed_is_not_prepared_again():
    model = lively("cifar")
    engine = EventEngine(model)
    blocks = engine._prepared.blocks
    model.train().eval()
    for size in ((8, 8), (9, 9)):
        engine(pictures(model, size))
    model(pictures(model, (8, 8)))
    assert engine._prepared.blocks is blocks


def test_a_model_that_leaves_float32_runs_through_torch_and_comes_back():
    model = lively("cifar")
    x = pictures(model, (12, 12))
    engine = EventEngine(model)
    expected = engine(x)
    model.double()
    with pytest.warns(UserWarning, match="runs through torch, because its weights are not float32"):
        got = engine.run(x.double())
    assert torch.equal(got.logits, model(x.double()))
    assert got.counts == got.paths == got.activity == {}
    assert engine.why_not
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        engine(x.double())
    model.float()
    assert engine.why_not is None
    assert torch.equal(engine(x), expected)


@pytest.mark.gpu
def test_a_model_on_cuda_runs_through_torch():
    model = lively("cifar")
    engine = EventEngine(model)
    model.cuda()
    x = pictures(model, (12, 12)).cuda()
    with pytest.warns(UserWarning, match="not float32 on the CPU"):
        assert engine(x).is_cuda


def test_logits_and_activity_of_a_call_belong_together():
    model = lively("cifar")
    inputs = [pictures(model, (12, 12), batch=1) * scale for scale in (0.2, 1.0, 2.0, 4.0)]
    engine = EventEngine(model)
    expected = [engine.run(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for run, alone in zip(pool.map(engine.run, inputs), expected, strict=True):
                assert torch.equal(run.logits, alone.logits)
                for layer, count in alone.counts.items():
                    assert torch.equal(run.counts[layer], count)
                    assert run.counts[layer].dtype == torch.int64
                assert run.paths == alone.paths
    # The latest call may be another's; what `run` gave stays.
    engine(inputs[0])
    assert engine.activity.keys() == expected[0].activity.keys()
    for layer, rate in engine.activity.items():
        assert torch.equal(rate, expected[0].activity[layer])


@torch.inference_mode()
def test_counts_are_spikes():
    model = lively("cifar").to(memory_format=torch.channels_last)
    x = pictures(model, (12, 10), batch=3).to(memory_format=torch.channels_last)
    run = EventEngine(model).run(x)
    with record_activity(model, keep_spikes=True) as recorded:
        model(x)
    for layer, count in run.counts.items():
        spikes = recorded.spikes(layer)
        torch.testing.assert_close(count, spikes.flatten(1).sum(1), atol=3, rtol=0.01)
        assert run.neurons[layer] == spikes[0].numel()


def test_buffers_are_kept_for_the_latest_shapes_alone():
    model = lively("cifar")
    engine = EventEngine(model)
    shelf = engine._prepared.memory
    for side in range(4, 4 + 3 * event_memory.SHAPES):
        engine(pictures(model, (side, 5)))
    engine(pictures(model, (side - 7, 5)))  # used again, it is among the latest
    engine(pictures(model, (40, 5)))
    kept = [shape[-2] for shape in shelf._idle]
    assert kept == [*range(side - 6, side + 1), side - 7, 40][-event_memory.SHAPES :]
    assert all(len(memories) == 1 for memories in shelf._idle.values())


def test_buffers_that_outlive_their_place_are_dropped():
    shelf = event_memory.Shelf()
    with shelf.borrow(1, torch.Size((1, 1, 3, 2, 2))):
        for side in range(10, 10 + event_memory.SHAPES):
            with shelf.borrow(1, torch.Size((1, 1, 3, side, side))):
                pass
    assert len(shelf._idle) == event_memory.SHAPES
    assert (1, 1, 1, 3, 2, 2) not in shelf._idle


@torch.inference_mode()
def test_another_default_dtype_changes_nothing(monkeypatch):
    model = lively("cifar")
    x = pictures(model, (12, 12))
    expected = {}
    for weights in ("float32", "int8"):
        for path in ("events", "tables", "tiles", "onednn"):
            monkeypatch.setattr("msr_zoo.event_blocks.SpikeLayer.path", all_by(path))
            expected[weights, path] = EventEngine(model, weights=weights)(x)
            torch.set_default_dtype(torch.float64)
            try:
                got = EventEngine(model, weights=weights)(x)
            finally:
                torch.set_default_dtype(torch.float32)
            assert torch.equal(got, expected[weights, path])


def test_a_change_by_one_thread_reaches_the_others():
    model = lively("cifar")
    x = pictures(model, (12, 12))
    engine = EventEngine(model)
    engine(x)
    one_weight(model)
    got: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: got.append(engine(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = EventEngine(model)(x)
    assert len(got) == 4
    assert all(torch.equal(logits, expected) for logits in got)
