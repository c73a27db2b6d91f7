"""What is shown is what the network did: compared with hooks, loops and sums written out here."""

import copy

import pytest
import torch

import msr_zoo
from msr_zoo.neurons import LIF
from msr_zoo.watch.stream import stream_chart
from msr_zoo.watch.trace import Source, block_of, membrane, trace

STEPS = 3
SOURCE = Source("tiny", trained=False)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return msr_zoo.create_model(
        "msresnet20", depths=(2, 1, 1), num_steps=5, zero_init_last=False
    ).eval()


@pytest.fixture(scope="module")
def picture():
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def traced(model, picture):
    return trace(model, picture, SOURCE, STEPS)


@pytest.fixture(scope="module")
def by_hand(model, picture):
    """Inputs and outputs of every LIF for the picture shown at each step as a video."""
    seen, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, LIF):
            handles.append(
                module.register_forward_hook(
                    lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
                )
            )
    with torch.no_grad():
        logits = model(picture[:, None].expand(-1, STEPS, -1, -1, -1))
    for handle in handles:
        handle.remove()
    return seen, logits


def test_the_model_is_left_as_it_was(model, picture, traced):
    assert model.num_steps == 5
    assert not any(module._forward_hooks for module in model.modules())
    assert traced.steps == STEPS
    assert trace(model, picture, SOURCE).steps == 5


def test_spikes_rates_and_potentials_equal_those_computed_by_hand(model, traced, by_hand):
    seen, _ = by_hand
    assert list(seen) == traced.layers == list(traced.neurons)
    for name, (current, fired) in seen.items():
        spikes = fired[:, 0] > 0
        assert torch.equal(traced.spikes(name), spikes)
        assert traced.rates[name].tolist() == pytest.approx(
            [spikes[t].sum().item() / spikes[t].numel() for t in range(STEPS)]
        )
        u = torch.zeros_like(current[0, 0])
        for t in range(STEPS):
            before = (spikes[t - 1] if t else torch.zeros_like(spikes[0])).float()
            u = 0.25 * u * (1 - before) + current[t, 0]
            assert torch.allclose(traced.potentials(name)[t], u, atol=1e-5)
        assert torch.equal(traced.potentials(name) > 0.5, spikes)


def test_the_answer_after_each_step_is_that_of_so_many_steps(model, picture, traced):
    for step in range(1, STEPS + 1):
        video = picture[:, None].expand(-1, step, -1, -1, -1)
        with torch.no_grad():
            chances = model(video)[0].softmax(0)
        assert torch.allclose(traced.probabilities[step - 1], chances, atol=1e-5)
        label, p = traced.best(step, 1)[0]
        assert p == pytest.approx(chances.max().item(), abs=1e-5)
        assert label == traced.labels[int(chances.argmax())]


def test_maps_are_shares_of_channels(traced, by_hand):
    for name, (_, fired) in by_hand[0].items():
        assert torch.allclose(traced.maps[name], fired[:, 0].mean(1), atol=1e-6)
        assert traced.shapes[name] == tuple(fired.shape[2:])


def test_large_maps_are_averaged(model):
    wide = trace(model, torch.randn(1, 3, 112, 112), SOURCE, 1)
    share = wide.spikes("layer1.0.lif1").float().mean(1)
    assert wide.maps["layer1.0.lif1"].shape == (1, 56, 56)
    assert wide.maps["layer1.0.lif1"][0, 3, 5] == pytest.approx(
        share[0, 6:8, 10:12].mean().item(), abs=1e-6
    )


def test_blocks_hold_their_layers_in_order(traced):
    assert list(traced.blocks) == ["layer1.0", "layer1.1", "layer2.0", "layer3.0", "lif"]
    assert traced.blocks["layer2.0"] == ["layer2.0.lif1", "layer2.0.lif2"]
    assert traced.streams[-1] == "lif"
    assert block_of("layer10.12.lif2") == "layer10.12"


def test_the_stream_is_what_enters_each_block(model, picture, traced):
    entered = {}
    handles = [
        block.register_forward_hook(
            lambda _, inputs, output, name=f"layer{stage}.{index}": entered.update(
                {name: inputs[0]}
            )
        )
        for stage in (1, 2, 3)
        for index, block in enumerate(model.get_submodule(f"layer{stage}"))
    ]
    with torch.no_grad():
        model(picture[:, None].expand(-1, STEPS, -1, -1, -1))
    for handle in handles:
        handle.remove()
    for step, flows in enumerate(traced.flows):
        assert [flow.block for flow in flows] == list(traced.blocks)
        for flow in flows[:-1]:
            potential = entered[flow.block][step].flatten().sort().values
            assert flow.mean == pytest.approx(potential.mean().item(), abs=1e-5)
            assert flow.low == pytest.approx(potential.quantile(0.05).item(), abs=1e-4)
            assert flow.high == pytest.approx(potential.quantile(0.95).item(), abs=1e-4)
    assert f"mean {traced.flows[1][0].mean:.3f}" in stream_chart(traced, STEPS)


def test_event_frames_bring_their_steps():
    model = msr_zoo.create_model("msresnet20_dvs", depths=(1, 1, 1)).eval()
    frames = torch.rand(1, 4, 2, 64, 64)
    seen = trace(model, frames, SOURCE)
    assert seen.steps == 4
    assert torch.equal(seen.seen, frames[0])


def test_the_input_is_kept_as_a_picture(model, picture, traced):
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    assert torch.allclose(traced.seen[0], (picture[0] * std + mean).clamp(0, 1))


def test_membrane_follows_its_closed_form_until_the_first_spike():
    currents = torch.full((4, 1), 0.3)
    potentials = membrane(currents, 0.25, 0.5)
    # 0.3, 0.375, 0.39375, ... towards 0.4: never above 0.5.
    expected = [0.3 * (1 - 0.25**t) / 0.75 for t in range(1, 5)]
    assert potentials.flatten().tolist() == pytest.approx(expected)
    # Above the threshold: reset, so each step begins anew.
    assert membrane(torch.full((3, 1), 0.6), 0.25, 0.5).flatten().tolist() == pytest.approx(
        [0.6, 0.6, 0.6]
    )
    # Exactly at the threshold a neuron is silent, and keeps its potential.
    assert membrane(torch.tensor([[0.5], [0.0]]), 0.25, 0.5).flatten().tolist() == [0.5, 0.125]


def test_json_holds_answers_and_activity(traced):
    told = traced.as_dict()
    assert (told["model"], told["trained"], told["steps"]) == ("tiny", False, STEPS)
    assert [answer[0]["label"] for answer in told["answers"]] == [
        traced.best(step, 1)[0][0] for step in (1, 2, 3)
    ]
    total = traced.activity.total
    assert told["energy_joules"] == pytest.approx(4.6e-12 * total.mac + 0.9e-12 * total.ac)


def test_numbers_that_are_not_finite_are_refused(model, picture):
    model = copy.deepcopy(model)
    torch.nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(ValueError, match="tiny answers with numbers that are not finite"):
        trace(model, picture, SOURCE)


def test_memory_is_told(traced):
    values = sum(STEPS * c * h * w for c, h, w in (traced.shapes[name] for name in traced.layers))
    assert traced.bytes() == pytest.approx(4.125 * values, rel=0.01)
