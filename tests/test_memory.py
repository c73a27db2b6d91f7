"""What a whole training step keeps for backward, against a count made from the shapes alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import msr_zoo
from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.neurons import LIF

T, B, SIZE = 3, 4, 32
CHANNELS, DEPTH = (16, 32, 64), 3


def saved_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of every distinct storage that autograd keeps, the model's own tensors left out."""
    given = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(B, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    half = dtype != torch.float32
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype if half else None, enabled=half),
    ):
        F.cross_entropy(model.train()(x), torch.arange(B))
    return sum(kept.values())


def expected_bits(value: int) -> int:
    """Bits of msresnet20's activations, where a real number has `value` bits.

    A neuron keeps 2 bits a step, a convolution of spikes 1 bit an input, a batch norm its input.
    """
    picture = SIZE * SIZE
    bits = B * (3 + CHANNELS[0]) * picture * value  # the stem runs once a picture
    before, size = CHANNELS[0], SIZE
    for stage, channels in enumerate(CHANNELS):
        for block in range(DEPTH):
            into = T * B * before * size**2
            if stage and block == 0:
                size //= 2
            out = T * B * channels * size**2
            bits += 3 * into + 3 * out + 2 * value * out
            if stage and block == 0:
                bits += value * (into + out)  # the shortcut's convolution and batch norm
            before = channels
    return bits + 2 * T * B * before * size**2  # the last neurons


def relu_twin(model: nn.Module) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LIF):
                setattr(parent, name, nn.ReLU())
            elif isinstance(child, SpikeConv2d):
                plain = nn.Conv2d(
                    child.in_channels, child.out_channels, 3, child.stride, 1, bias=False
                )
                setattr(parent, name, plain)
    return model


def msresnet20() -> nn.Module:
    model: nn.Module = msr_zoo.create_model("msresnet20", num_steps=T)
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "value"), [(torch.bfloat16, 16), (torch.float32, 32)])
def test_training_step_saves_what_the_shapes_say(dtype: torch.dtype, value: int) -> None:
    model = msresnet20()
    expected = expected_bits(value) // 8
    # Autocast's copies of the weights, the statistics of the batch norms, the head.
    weights = sum(p.numel() for p in model.parameters()) * (value // 8 if value == 16 else 0)
    assert expected <= saved_bytes(model, dtype) <= expected + weights + 0.01 * expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_training_step_saves_less_than_relu(dtype: torch.dtype) -> None:
    assert saved_bytes(msresnet20(), dtype) <= 0.75 * saved_bytes(relu_twin(msresnet20()), dtype)
