"""Whole networks against the slow ones that equations.py writes from the paper's equations."""

import pytest
import torch
from equations import Equations
from shrunk import KINDS, randomised, shrunk
from torch import Tensor, nn

from msr_zoo.neurons import LIF

FAMILIES = {"msresnet": "ms", "spiking": "spiking", "sew": "sew", "resnet": "twin"}


def equations(name: str, model: nn.Module, train: bool) -> Equations:
    parameters = dict(model.named_parameters())
    state = {k: parameters.get(k, v).detach().clone() for k, v in model.state_dict().items()}
    for key in parameters:
        state[key].requires_grad_()
    return Equations(
        state,
        family=next(FAMILIES[prefix] for prefix in FAMILIES if name.startswith(prefix)),
        stem_stride=1 if name.endswith("20") else 2,
        first_stride=1 if name.endswith("20") else 2,
        train=train,
    )


def recorded(model: nn.Module) -> dict[str, Tensor]:
    """What each neuron module gives in the calls to come."""
    activity: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            activity[name] = output.detach()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, LIF | nn.ReLU):
            module.register_forward_hook(keep(name))
    return activity


def inputs(model: nn.Module, kind: str) -> Tensor:
    torch.manual_seed(2)
    # A twin's last stage norms one value a sample: of two, the gradients would be rounding alone.
    if kind == "picture":
        return torch.randn(4, model.in_chans, 24, 24, dtype=torch.float64)
    if kind == "odd picture":
        return torch.randn(5, model.in_chans, 19, 27, dtype=torch.float64)
    return torch.randn(2, 4, model.in_chans, 17, 22, dtype=torch.float64)


def assert_close(result: Tensor, expected: Tensor, what: str) -> None:
    error, scale = (result - expected).abs().max(), expected.abs().max()
    assert error <= 1e-9 * scale, f"{what}: {error} beside {scale}"


@pytest.mark.parametrize("kind", ["picture", "odd picture", "events"])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_network_equals_the_equations(name, train, kind):
    model = randomised(shrunk(name)).train(train)
    slow = equations(name, model, train)
    activity = recorded(model)
    x = inputs(model, kind)
    twin = name.startswith("resnet_twin")

    logits = model(x)
    expected = slow(x, 1 if twin else 3)

    assert activity.keys() == slow.spikes.keys()
    for layer, spikes in activity.items():
        if twin:
            assert_close(spikes, slow.spikes[layer], layer)
        else:
            assert 0.01 < spikes.mean() < 0.99, layer
            assert torch.equal(spikes, slow.spikes[layer]), layer
    assert_close(logits, expected, "logits")

    weights = torch.randn(logits.shape, dtype=torch.float64)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    for key, parameter in model.named_parameters():
        if train and slow.state[key].grad.abs().max() < 1e-12:
            # A bias that a batch norm takes away again: zero but for rounding, in both.
            assert parameter.grad.abs().max() < 1e-12, key
        else:
            assert_close(parameter.grad, slow.state[key].grad, key)


@pytest.mark.parametrize("kind", ["picture", "events"])
@pytest.mark.parametrize("name", KINDS)
def test_running_statistics_are_those_of_all_steps_together(name, kind):
    model = randomised(shrunk(name)).train()
    slow = equations(name, model, train=True)
    values: dict[str, int] = {}
    for layer, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):

            def count(_module, args, layer=layer):
                values[layer] = args[0].numel() // args[0].shape[1]

            module.register_forward_pre_hook(count)
    x = inputs(model, kind)
    with torch.no_grad():
        model(x)
        slow(x, 1 if name.startswith("resnet_twin") else 3)
    assert values.keys() == slow.statistics.keys()
    for layer, (mean, variance) in slow.statistics.items():
        module = model.get_submodule(layer)
        # torch's running variance is the unbiased one. What is constant in time is seen once, so
        # that its n counts no copies.
        unbiased = variance * values[layer] / (values[layer] - 1)
        before = slow.state
        expected = 0.9 * before[f"{layer}.running_mean"] + 0.1 * mean
        torch.testing.assert_close(module.running_mean, expected, rtol=1e-9, atol=1e-12)
        expected = 0.9 * before[f"{layer}.running_var"] + 0.1 * unbiased
        torch.testing.assert_close(module.running_var, expected, rtol=1e-9, atol=1e-12)
        assert module.num_batches_tracked == 1
