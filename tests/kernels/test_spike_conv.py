"""SpikeConv2d against torch's Conv2d."""

import pytest
import torch
from torch import Tensor, nn

from msr_zoo.kernels.spike_conv import SpikeConv2d

CL = torch.channels_last


def spikes(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(0)
    return (torch.rand(*shape) < 0.3).to(dtype)


def pair(*args: int, dtype: torch.dtype = torch.float64, **kwargs: int) -> tuple[nn.Conv2d, ...]:
    """A SpikeConv2d and a Conv2d of the same weights."""
    torch.manual_seed(1)
    ours = SpikeConv2d(*args, bias=False, **kwargs).to(dtype)
    theirs = nn.Conv2d(*args, bias=False, **kwargs).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def run(conv: nn.Conv2d, x: Tensor) -> list[Tensor | None]:
    """Output, and the gradients of input and weight that are asked for."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(x.requires_grad)
    y = conv(x)
    if y.requires_grad:
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype)
        (y * weights).sum().backward()
    return [y.detach(), x.grad, conv.weight.grad]


def assert_same(ours: nn.Conv2d, theirs: nn.Conv2d, x: Tensor, tolerance: float = 1e-12) -> None:
    for result, expected in zip(run(ours, x), run(theirs, x), strict=True):
        assert (result is None) == (expected is None)
        if result is not None:
            assert result.dtype == expected.dtype
            scale = float(expected.abs().max()) if expected.numel() else 0.0
            torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance * scale)


GEOMETRY = [
    ((3, 5, 3), {"padding": 1}),
    ((3, 5, 3), {"padding": 1, "stride": 2}),
    ((4, 6, 1), {"stride": 2}),
    ((4, 6, 1), {}),
    ((2, 3, (3, 1)), {"padding": (1, 0), "stride": (1, 2)}),
]


@pytest.mark.parametrize(("args", "kwargs"), GEOMETRY)
@pytest.mark.parametrize("input_format", [torch.contiguous_format, CL])
@pytest.mark.parametrize("weight_format", [torch.contiguous_format, CL])
def test_equals_conv2d(args, kwargs, input_format, weight_format):
    x = spikes(2, args[0], 7, 9).to(memory_format=input_format).requires_grad_()
    ours, theirs = pair(*args, **kwargs)
    ours, theirs = ours.to(memory_format=weight_format), theirs.to(memory_format=weight_format)
    assert_same(ours, theirs, x)
    assert ours(x).stride() == theirs(x).stride()


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 5)])
@pytest.mark.parametrize("weight_format", [torch.contiguous_format, CL])
def test_equals_conv2d_on_smallest_images(shape, weight_format):
    ours, theirs = pair(3, 4, 3, padding=1)
    ours, theirs = ours.to(memory_format=weight_format), theirs.to(memory_format=weight_format)
    assert_same(ours, theirs, spikes(*shape).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CL])
def test_equals_conv2d_in_lower_precision(dtype, memory_format):
    x = spikes(2, 16, 8, 8, dtype=dtype).to(memory_format=memory_format).requires_grad_()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert_same(*pair(16, 8, 3, padding=1, dtype=dtype), x, tolerance)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CL])
def test_bfloat16_gradients_of_one_pixel_are_made_of_it_alone(memory_format):
    # torch's own are so only where memory happens to hold zeros; what it frees here holds NaN.
    ours = pair(32, 64, 3, padding=1, stride=2, dtype=torch.bfloat16)[0]
    exact = pair(32, 64, 3, padding=1, stride=2, dtype=torch.bfloat16)[1].double()
    x = spikes(6, 32, 1, 1).to(memory_format=memory_format).requires_grad_()
    expected = run(exact, x)
    for _ in range(40):
        junk = torch.full((2**20,), float("nan"), dtype=torch.bfloat16)
        del junk
        ours.weight.grad = None
        for result, value in zip(run(ours, x.bfloat16()), expected, strict=True):
            torch.testing.assert_close(result.double(), value, rtol=0.02, atol=0.02)


def test_equals_conv2d_on_a_slice_and_on_an_expanded_input():
    ours, theirs = pair(3, 4, 3, padding=1)
    for x in (spikes(2, 6, 7, 7)[:, ::2], spikes(1, 3, 7, 7).expand(4, -1, -1, -1)):
        y = ours(x.requires_grad_())
        assert torch.equal(y, ours(x.contiguous()))
        torch.testing.assert_close(y, theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("input_needs_grad", [False, True])
@pytest.mark.parametrize("weight_needs_grad", [False, True])
def test_only_the_gradients_asked_for_are_given(input_needs_grad, weight_needs_grad):
    x = spikes(2, 3, 7, 9).requires_grad_(input_needs_grad)
    ours, theirs = pair(3, 5, 3, padding=1)
    for conv in (ours, theirs):
        conv.weight.requires_grad_(weight_needs_grad)
    assert_same(ours, theirs, x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CL])
def test_memory_format_is_kept(memory_format):
    x = spikes(2, 8, 7, 9).to(memory_format=memory_format).requires_grad_()
    y = pair(8, 8, 3, padding=1)[0](x)
    assert y.is_contiguous(memory_format=memory_format)
    y.sum().backward()
    assert x.grad.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CL])
@pytest.mark.parametrize("autocast", [False, True])
def test_backward_keeps_one_bit_a_spike_and_the_weight(dtype, memory_format, autocast):
    x = spikes(3, 8, 17, 19, dtype=dtype).to(memory_format=memory_format).requires_grad_()
    conv = pair(8, 4, 3, padding=1, dtype=dtype)[0]
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = 8 * tensor.untyped_storage().nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        y = conv(x)
    assert y.requires_grad
    weight_bits = 8 * conv.weight.numel() * conv.weight.element_size()
    assert sum(storages.values()) <= 1.1 * x.numel() + weight_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_autocast_follows_conv2d(dtype, grad):
    x = spikes(2, 3, 7, 7, dtype=dtype).requires_grad_(grad)
    ours, theirs = pair(3, 4, 3, padding=1, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(grad):
        y, expected = ours(x), theirs(x)
    assert y.dtype == expected.dtype == (dtype if dtype == torch.float64 else torch.bfloat16)
    torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2)
    if grad:
        y.float().sum().backward()
        assert x.grad.dtype == ours.weight.grad.dtype == dtype


def test_a_wrong_channel_count_is_refused_as_by_conv2d():
    ours, theirs = pair(3, 4, 3, padding=1)
    for conv in (ours, theirs):
        with pytest.raises(RuntimeError, match="channels"):
            conv(spikes(2, 5, 7, 7))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CL])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_opcheck(memory_format, dtype):
    x = spikes(2, 3, 5, 7, dtype=dtype).to(memory_format=memory_format).requires_grad_()
    weight = pair(3, 4, 3, dtype=dtype)[0].weight
    torch.library.opcheck(torch.ops.msr_zoo.spike_conv.default, (x, weight, [2, 2], [1, 1]))
