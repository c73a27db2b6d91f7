"""What every network promises beside the equations: sizes, steps, determinism, errors."""

import copy
import pickle

import pytest
import timm
import torch
from shrunk import KINDS, VARIANTS, randomised, shrunk
from torch import Tensor, nn

from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.neurons import LIF

PARAMETERS = {
    ("18", 1000): 11_693_736,
    ("34", 1000): 21_801_896,
    ("104", 1000): 77_350_504,
    ("20", 10): 272_474,
    ("32", 10): 466_906,
    ("44", 10): 661_338,
    ("56", 10): 855_770,
    ("110", 10): 1_730_714,
    ("482", 10): 7_758_106,
    # Two input channels, not three; and a first stage of stride 2 has a shortcut of its own.
    ("20_dvs", 10): 272_474 - 9 * 16 + 16 * 16 + 2 * 16,
}
LARGE_RIVALS = {"spiking_resnet482", "sew_resnet482", "resnet_twin482"}
NUM_STEPS = {"msresnet104": 5, "msresnet20_dvs": 10}


def test_every_variant_is_registered():
    numbers = {"18", "34", "20", "32", "44", "56", "110", "482"}
    families = {f"{f}{n}" for f in ("spiking_resnet", "sew_resnet", "resnet_twin") for n in numbers}
    ours = {f"msresnet{n}" for n in numbers | {"104", "20_dvs"}}
    assert set(VARIANTS) == ours | families
    assert set(timm.list_models(module="rivals")) == families


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE_RIVALS else []) for n in VARIANTS],
)
def test_parameter_counts_and_steps_are_those_of_the_paper(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    size = name[name.index("net") + 3 :].removeprefix("_twin")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[size, model.num_classes]
    twin = name.startswith("resnet_twin")
    assert model.num_steps == (1 if twin else NUM_STEPS.get(name, 6))
    assert model.drop_rate == (0.2 if name == "msresnet104" else 0.0)
    lifs = [m for m in model.modules() if isinstance(m, LIF)]
    assert bool(lifs) != twin
    assert all((m.decay, m.threshold) == (0.25, 0.5) for m in lifs)


@pytest.mark.parametrize("name", ["msresnet18", "msresnet104", "msresnet20", "msresnet20_dvs"])
def test_strides(name):
    info = shrunk(name).feature_info
    expected = {"msresnet20": [1, 1, 2, 4], "msresnet20_dvs": [2, 4, 8, 16]}
    assert [i["reduction"] for i in info] == expected.get(name, [2, 4, 8, 16, 32])


@pytest.mark.parametrize("zero_init_last", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_initialisation(name, zero_init_last):
    model = shrunk(name, zero_init_last=zero_init_last)
    scale = 1.0 if name.startswith("resnet_twin") else 0.5
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            expected = scale
            if key.endswith("bn2") and name.startswith(("msresnet", "resnet_twin")):
                expected = 0.0 if zero_init_last else scale
            if name.startswith("spiking") and ("bn2" in key or "shortcut" in key):
                expected = 0.5 / 2**0.5
            assert (module.weight == torch.tensor(expected)).all(), key
            assert (module.bias == 0).all(), key


@pytest.mark.parametrize("name", KINDS)
def test_a_fresh_network_learns_in_every_last_norm(name):
    # Where a neuron follows the last norm, a scale of 0 would have no gradient, ever.
    model = shrunk(name).train()
    logits = model(torch.randn(4, model.in_chans, 32, 32))
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for key, parameter in model.named_parameters():
        if "bn2.weight" in key:
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", KINDS)
def test_spike_convolutions_are_those_that_see_only_spikes(name):
    model = randomised(shrunk(name)).eval()
    binary: dict[str, bool] = {}

    def look(key: str):
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            binary[key] = bool(((inputs[0] == 0) | (inputs[0] == 1)).all())

        return hook

    convs = {k: m for k, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for key, module in convs.items():
        module.register_forward_pre_hook(look(key))
    model(torch.randn(2, model.in_chans, 32, 32, dtype=torch.float64))
    first_of_sew = {"layer1.0.conv1", "layer1.0.shortcut.0"}  # before the first sum
    for key, module in convs.items():
        if not (name.startswith("sew") and key in first_of_sew):
            assert isinstance(module, SpikeConv2d) == binary[key], key


@pytest.mark.parametrize("name", KINDS)
def test_the_stem_sees_a_picture_once_and_each_frame_of_events_once(name):
    model = shrunk(name).eval()
    batches: list[int] = []
    model.stem[0].register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    model(torch.randn(2, model.in_chans, 16, 16))
    assert batches == [2]
    batches.clear()
    model(torch.randn(2, 5, model.in_chans, 16, 16))
    assert batches == [10]


@pytest.mark.parametrize("name", ["msresnet18", "msresnet104"])
def test_the_first_shortcut_of_a_picture_runs_once(name):
    model = shrunk(name).eval()
    batches: list[int] = []
    for block in (model.layer1[0], model.layer2[0]):
        block.shortcut.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    model(torch.randn(2, 3, 32, 32))
    assert batches == [2, 2 * 3]


@pytest.mark.parametrize("name", KINDS)
def test_a_constant_film_is_a_picture(name):
    model = randomised(shrunk(name)).eval()
    picture = torch.randn(2, model.in_chans, 20, 23, dtype=torch.float64)
    film = picture.unsqueeze(1).expand(-1, 3, -1, -1, -1)
    torch.testing.assert_close(model(picture), model(film), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_calls_and_samples_do_not_see_each_other(name):
    model = randomised(shrunk(name)).eval()
    x = torch.randn(3, 4, model.in_chans, 20, 23, dtype=torch.float64)
    first = model(x)
    model(torch.randn_like(x))
    assert torch.equal(model(x), first)
    alone = torch.cat([model(sample[None]) for sample in x])
    torch.testing.assert_close(alone, first, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (33, 18)])
def test_any_size(name, size):
    model = shrunk(name).eval()
    for x in (torch.randn(2, model.in_chans, *size), torch.randn(2, 1, model.in_chans, *size)):
        assert model(x).shape == (2, 5)
        assert model(x).isfinite().all()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 4, 3, 16, 16)])
def test_steps_are_what_shorter_calls_give(name, shape):
    model = randomised(shrunk(name, in_chans=3)).eval()
    x = torch.randn(shape, dtype=torch.float64)
    steps = model.forward_steps(x)
    torch.testing.assert_close(steps[-1], model(x), rtol=1e-9, atol=1e-12)
    each = model.forward_steps(x, cumulative=False)
    for t in range(len(steps)):
        torch.testing.assert_close(each[: t + 1].mean(0), steps[t], rtol=1e-9, atol=1e-12)
    if len(shape) == 5:
        assert len(steps) == 4
        for t in range(4):
            torch.testing.assert_close(steps[t], model(x[:, : t + 1]), rtol=1e-9, atol=1e-12)
    else:
        assert len(steps) == (1 if name.startswith("resnet_twin") else 3)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 16, 16), r"input must be .* got \(3, 16, 16\)"),
        ((2, 5, 16, 16), r"got \(2, 5, 16, 16\)"),
        ((2, 4, 5, 16, 16), r"got \(2, 4, 5, 16, 16\)"),
        ((2, 0, 3, 16, 16), "at least one step"),
        ((1, 1, 1, 3, 16, 16), "input must be"),
    ],
)
def test_a_wrong_input_is_named(name, shape, message):
    with pytest.raises(ValueError, match=message):
        shrunk(name, in_chans=3)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
        ({"num_steps": 2.5}, "num_steps must be a whole number of at least 1, got 2.5"),
        ({"channels": ()}, r"depths \(.*\) and channels \(\) must be of the same stages"),
        ({"depths": (), "channels": ()}, "must be of the same stages"),
        ({"decay": 1.5}, r"decay must lie in \[0, 1\], got 1.5"),
        ({"decay": float("nan")}, "decay must lie"),
        ({"threshold": 0.0}, "threshold must be positive, got 0.0"),
        ({"threshold": float("inf")}, "threshold must be positive, got inf"),
    ],
)
def test_a_wrong_argument_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        shrunk("msresnet18", **kwargs)


def test_decay_and_threshold_reach_every_neuron():
    model = shrunk("msresnet18", decay=0.5, threshold=1.0)
    lifs = [m for m in model.modules() if isinstance(m, LIF)]
    assert len(lifs) == 2 * 5 + 1
    assert all((m.decay, m.threshold) == (0.5, 1.0) for m in lifs)


@pytest.mark.parametrize("name", KINDS)
def test_grad_checkpointing_gives_equal_gradients(name):
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    gradients = []
    for enable in (False, True):
        model = randomised(shrunk(name, drop_path_rate=0.3, in_chans=3)).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(3)
        model(x).square().sum().backward()
        gradients.append({k: p.grad for k, p in model.named_parameters()})
    for key, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][key]), key


@pytest.mark.parametrize("name", KINDS)
def test_drop_path_drops_a_sample_at_all_its_steps_or_scales_it(name):
    block = randomised(
        shrunk(
            name, drop_path_rate=0.5, depths=(2,) * 4 if "18" in name or "104" in name else (2,) * 3
        )
    ).layer1[1]
    torch.manual_seed(0)
    x = (torch.rand(4, 32, 4, 6, 6, dtype=torch.float64) < 0.4).double()
    block.drop_path.drop_prob = 0.5
    block.eval()  # batch norms that do not look at the batch
    whole = block.branch(x)
    block.drop_path.train()
    branch = block.branch(x)
    dropped = (branch == 0).flatten(2).all(2)  # (T, B)
    assert not (whole == 0).flatten(2).all(2).any()
    assert torch.equal(dropped, dropped[:1].expand(4, -1))
    assert 4 < dropped[0].sum() < 28
    kept = ~dropped[0]
    torch.testing.assert_close(branch[:, kept], 2 * whole[:, kept], rtol=1e-12, atol=0)


def test_drop_path_rates_rise_from_block_to_block():
    model = shrunk("msresnet20", depths=(2, 2, 1), drop_path_rate=0.4)
    rates = [
        getattr(b.drop_path, "drop_prob", 0.0) for s in model.stages for b in model.get_submodule(s)
    ]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_drop_rate_drops_before_the_classifier():
    model = shrunk("msresnet20", drop_rate=0.5, channels=(4, 6, 512))
    features = torch.ones(1, 512, 2, 2)
    kept = model.train().forward_head(features, pre_logits=True)
    assert set(kept.flatten().tolist()) == {0.0, 2.0}
    assert set(model.eval().forward_head(features, pre_logits=True).flatten().tolist()) == {1.0}


@pytest.mark.parametrize("name", KINDS)
def test_copies_and_pickles_are_the_same_network(name):
    model = randomised(shrunk(name)).eval()
    x = torch.randn(2, model.in_chans, 16, 16, dtype=torch.float64)
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    other = shrunk(name).double().eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), expected)


@pytest.mark.parametrize("name", KINDS)
def test_channels_last_changes_nothing_but_rounding(name):
    x = torch.randn(2, 3, 21, 16, dtype=torch.float64)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = randomised(shrunk(name, in_chans=3)).train().to(memory_format=memory_format)
        logits = model(x.to(memory_format=memory_format))
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in model.parameters())])
    for plain, last in zip(*results, strict=True):
        torch.testing.assert_close(plain, last, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_autocast_trains_in_bfloat16(name):
    model = shrunk(name, in_chans=3).train()
    seen = set()
    for module in model.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        # At 16 px the last stage sees one pixel, and of that torch's bfloat16 convolution (seen in
        # 2.14.1, on AMX) takes a weight gradient that reads memory which nobody has written.
        logits = model(torch.randn(2, 3, 32, 32))
    logits.float().square().sum().backward()
    assert seen <= {torch.bfloat16}
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in model.parameters())
