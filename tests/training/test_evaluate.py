"""What training/evaluate.py measures, against a slow count of its own."""

import pytest
import torch

import evaluate
import msr_zoo


class Drawn:
    """Three batches of random pictures, the last one smaller."""

    num_pictures = 20
    classes = tuple("abcdefghij")

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(20, 3, 16, 16, generator=generator)
        self.labels = torch.randint(10, (20,), generator=generator)

    def __len__(self):
        return 3

    def epoch(self, epoch, first=0):
        return zip(self.images.split(8), self.labels.split(8), strict=True)


@pytest.mark.parametrize("name", ["msresnet20", "resnet_twin20"])
def test_accuracy_by_step_and_top5_against_a_count_picture_by_picture(name):
    torch.manual_seed(0)
    model = msr_zoo.create_model(
        name, num_classes=10, num_steps=3, depths=(1, 1, 1), zero_init_last=False
    ).eval()
    steps = 1 if name == "resnet_twin20" else 3
    drawn = Drawn()
    results = evaluate.measure(model, drawn)
    for step in range(1, steps + 1):
        # T more steps change nothing of those before, so a network of fewer is the same one.
        model.num_steps = step
        ranks = []
        for image, label in zip(drawn.images, drawn.labels, strict=True):
            with torch.inference_mode():
                logits = model(image[None])[0].tolist()
            better = sum(logit > logits[label] for logit in logits)
            ranks.append(better)
        assert results["top1_by_step"][step - 1] == sum(rank == 0 for rank in ranks) / 20
    assert results["num_steps"] == len(results["top1_by_step"]) == steps
    assert results["top1"] == results["top1_by_step"][-1:]
    assert results["top5"] == [sum(rank < 5 for rank in ranks) / 20]
    assert 0 < results["top5"][0] < 1
    assert results["activity"]["pictures"] == 20
    assert (results["activity"]["spikes_per_neuron"] > 0) == (name == "msresnet20")
    operations = results["activity"]["synaptic_operations"]
    assert (operations["ac"] > 0) == (name == "msresnet20")
    low, high = results["top5_interval95"]
    assert low < results["top5"][0] < high
