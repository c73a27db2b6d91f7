import pytest
import torch

import msr_zoo
from loss import Answers, cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_each_step_is_the_mean_of_their_losses(smoothing):
    torch.manual_seed(0)
    answers, labels = torch.randn(3, 4, 5), torch.randint(5, (4,))
    total = 0.0
    for step in answers.double():
        for logits, label in zip(step, labels, strict=True):
            target = torch.full((5,), smoothing / 5, dtype=torch.float64)
            target[label] += 1 - smoothing
            total -= float(target @ (logits - logits.exp().sum().log()))
    assert float(cross_entropy(answers, labels, smoothing)) == pytest.approx(total / 12, rel=1e-6)


def test_each_step_answers_by_its_own_spikes():
    torch.manual_seed(0)
    model = msr_zoo.create_model("msresnet20", num_classes=5, num_steps=3, zero_init_last=False)
    model.train()  # with the statistics of the batch, so that its neurons fire
    images = torch.randn(4, 3, 16, 16)
    spikes = []
    model.lif.register_forward_hook(lambda _, __, output: spikes.append(output))
    with torch.inference_mode():
        each, together = Answers(model, True)(images), Answers(model, False)(images)
        expected = [model.fc(step.mean((2, 3))) for step in spikes[0]]
    assert together.shape == (1, 4, 5)
    torch.testing.assert_close(each, torch.stack(expected))
    torch.testing.assert_close(each.mean(0, keepdim=True), together)
    assert not torch.allclose(each[0], each[1])
