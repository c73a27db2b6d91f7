import torch

import msr_zoo
from firing_rate import FiringRate
from msr_zoo.neurons import LIF


def test_rate_is_that_of_all_spikes_and_its_gradient_reaches_the_input():
    network = torch.nn.Sequential(LIF(), torch.nn.Linear(3, 5), LIF())
    rate = FiringRate(network)
    currents = torch.rand(4, 2, 3, requires_grad=True)
    first = network[0](currents)
    second = network[2](network[1](first))
    taken = rate.take()
    expected = (first.sum() + second.sum()) / (first.numel() + second.numel())
    torch.testing.assert_close(taken, expected)
    taken.backward()
    inputs = currents.grad
    currents.grad = None
    first = network[0](currents)
    second = network[2](network[1](first))
    ((first.sum() + second.sum()) / (4 * 2 * 8)).backward()
    torch.testing.assert_close(inputs, currents.grad)


def test_rate_of_a_network_agrees_with_its_activity():
    model = msr_zoo.create_model("msresnet20", num_classes=10, num_steps=3).train()
    rate = FiringRate(model)
    with torch.no_grad(), msr_zoo.record_activity(model) as activity:
        model(torch.randn(4, 3, 32, 32))
    torch.testing.assert_close(rate.take(), torch.tensor(activity.firing_rate))


def test_evaluation_is_not_watched():
    model = msr_zoo.create_model("msresnet20", num_classes=10, num_steps=1)
    rate = FiringRate(model)
    with torch.no_grad():
        model.eval()(torch.randn(4, 3, 32, 32))
        model.train()(torch.zeros(4, 3, 32, 32))
    assert rate.take() == 0
