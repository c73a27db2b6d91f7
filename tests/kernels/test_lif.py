"""The LIF operator against its equations: the reference loop, closed forms, and its promises."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from msr_zoo.kernels import reference
from msr_zoo.kernels.lif import lif

CONSTANTS = (0.25, 0.5, 1.0)
LAYOUTS = ["contiguous", "channels_last", "batch_first", "strided", "constant"]


def currents(layout: str = "contiguous", dtype: torch.dtype = torch.float64) -> Tensor:
    """Currents (T, B, C, H, W) around the threshold; 3·5·7·2 neurons are no multiple of 8."""
    torch.manual_seed(0)
    x = torch.randn(6, 3, 5, 7, 2, dtype=torch.float64)
    if layout == "channels_last":
        x = x.transpose(2, 4).contiguous().transpose(2, 4)
    elif layout == "batch_first":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "strided":
        x = torch.stack([x, x], -1)[..., 0]
    elif layout == "constant":
        x = x[:1].expand(6, -1, -1, -1, -1)
    return x.to(dtype)


def spikes_and_gradient(function, x: Tensor, *constants: float) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    spikes = function(x, *constants)
    # Weights that differ from element to element, and from step to step.
    weights = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view(x.shape).to(x.dtype)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), x)
    return spikes.detach(), gradient


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "constants", [CONSTANTS, (0.5, 1.0, 2.0), (0.0, 0.3, 0.5), (1.0, 0.7, 1.0)]
)
def test_lif_equals_the_reference_exactly_in_float64(layout, constants):
    x = currents(layout)
    spikes, gradient = spikes_and_gradient(lif, x, *constants)
    expected_spikes, expected_gradient = spikes_and_gradient(reference.lif, x, *constants)
    assert 0.05 < spikes.mean() < 0.95
    assert gradient.count_nonzero() > 100
    assert torch.equal(spikes, expected_spikes)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lif_equals_the_reference_in_lower_precision(layout, dtype):
    x = currents(layout, dtype)
    spikes, gradient = spikes_and_gradient(lif, x, *CONSTANTS)
    expected_spikes, expected_gradient = spikes_and_gradient(reference.lif, x, *CONSTANTS)
    assert spikes.dtype == gradient.dtype == dtype
    assert torch.equal(spikes, expected_spikes)
    tolerance = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    "shape", [(4, 1), (4, 8), (1, 3, 2), (2, 3, 4, 5), (3, 2, 4, 1, 1), (2, 0)]
)
def test_lif_takes_any_shape(shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    for result, expected in zip(
        spikes_and_gradient(lif, x, *CONSTANTS),
        spikes_and_gradient(reference.lif, x, *CONSTANTS),
        strict=True,
    ):
        assert torch.equal(result, expected)


def test_a_constant_current_fires_when_the_geometric_series_passes_the_threshold():
    current, decay, threshold, steps = 0.45, 0.25, 0.5, 12
    potential = current * (1 - decay ** torch.arange(1, steps + 1)) / (1 - decay)
    first = int(
        (potential > threshold).nonzero()[0]
    )  # index of the first spike; then it starts anew
    spikes = lif(torch.full((steps, 1), current), decay, threshold, 1.0).flatten()
    assert first == 1
    expected = [float((t + 1) % (first + 1) == 0) for t in range(steps)]
    assert spikes.tolist() == expected


def test_the_threshold_is_strict():
    x = torch.tensor([[0.5, math.nextafter(0.5, 1), 0.5 - 1e-12, -3.0]], dtype=torch.float64)
    assert lif(x, *CONSTANTS).tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_the_window_is_open_and_one_wide():
    x = torch.tensor([[0.0, 1e-9, 0.999, 1.0, -0.1]], dtype=torch.float64, requires_grad=True)
    lif(x, *CONSTANTS).sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0, 0.0, 0.0]]


def test_the_gradient_follows_the_hand_written_recursion_with_none_through_the_reset():
    # u = 0.4, then 0.6 (fires), then 0.3 from rest, all within the window.
    x = torch.tensor([[0.4], [0.5], [0.3]], dtype=torch.float64, requires_grad=True)
    spikes = lif(x, *CONSTANTS)
    assert spikes.flatten().tolist() == [0, 1, 0]
    upstream = torch.tensor([[1.0], [10.0], [100.0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(spikes, x, upstream)
    third = 100.0
    second = 10.0  # it fired, so nothing of the third step comes back, and the reset passes nothing
    first = 1.0 + 0.25 * second
    assert gradient.flatten().tolist() == [first, second, third]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype):
    # With decay 1 the potential is a sum. Beyond 1 + eps/2 half precision forgets the small steps:
    # 64 of them pass a threshold that a float16 or bfloat16 potential would never reach.
    eps = torch.finfo(dtype).eps
    x = torch.full((65, 1), eps / 4, dtype=dtype)
    x[0] = 1.0
    threshold = 1 + 10 * eps
    in_half = x[0]
    for current in x[1:]:
        in_half = in_half + current
    assert in_half.item() <= threshold
    assert lif(x, 1.0, threshold, 1.0).sum() >= 1
    assert torch.equal(lif(x, 1.0, threshold, 1.0), reference.lif(x, 1.0, threshold, 1.0))


def saved_bits(function, *inputs: Tensor) -> int:
    """Bits of all storages that autograd keeps for backward, each counted once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = 8 * storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = function(*inputs)
    assert output.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_backward_keeps_two_bits_a_neuron_a_step(dtype, memory_format):
    steps, batch, *image = 5, 2, 7, 9, 11  # 1386 neurons are no multiple of 8
    x = torch.randn(steps * batch, *image, dtype=dtype).to(memory_format=memory_format)
    x = x.unflatten(0, (steps, batch)).requires_grad_()
    assert saved_bits(lambda x: lif(x, *CONSTANTS), x) <= 2.1 * x.numel()


@pytest.mark.parametrize("grad_mode", [False, True])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_bits_are_packed_only_for_a_backward_to_come(grad_mode, needs_grad, monkeypatch):
    packed = []

    def spy(*args):
        outputs = torch.ops.msr_zoo.lif(*args)
        packed.append(outputs[1].numel() + outputs[2].numel())
        return outputs

    monkeypatch.setattr("msr_zoo.kernels.lif._lif", spy)
    with torch.set_grad_enabled(grad_mode):
        lif(torch.randn(4, 16, requires_grad=needs_grad), *CONSTANTS)
    assert packed == [16 if grad_mode and needs_grad else 0]


def test_channels_last_stays_channels_last():
    x = torch.randn(4 * 2, 6, 5, 3).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    assert lif(x, *CONSTANTS).flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_the_input_is_not_changed():
    x = currents()
    before = x.clone()
    spikes_and_gradient(lif, x, *CONSTANTS)
    assert torch.equal(x, before)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(dtype, constant, grad):
    torch.manual_seed(0)
    x = torch.randn(4, 13, dtype=dtype).requires_grad_(grad)
    x = x[:1].expand(4, -1) if constant else x
    torch.library.opcheck(torch.ops.msr_zoo.lif.default, (x, *CONSTANTS, x.requires_grad))


def test_opcheck_of_backward():
    torch.manual_seed(0)
    bits = torch.randint(0, 256, (2, 4, 2), dtype=torch.uint8)
    torch.library.opcheck(
        torch.ops.msr_zoo.lif_backward.default, (torch.randn(4, 13), bits[0], bits[1], 0.25)
    )


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_gives_the_dtype_that_it_is_set_to(autocast_dtype, dtype):
    x = currents(dtype=dtype).requires_grad_()
    with torch.autocast("cpu", dtype=autocast_dtype):
        spikes = lif(x, *CONSTANTS)
    assert spikes.dtype == autocast_dtype
    assert torch.equal(spikes, reference.lif(x.detach().to(autocast_dtype), *CONSTANTS))
    spikes.sum().backward()
    assert x.grad.dtype == dtype


def test_autocast_leaves_float64_alone_and_does_nothing_where_disabled():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lif(currents(), *CONSTANTS).dtype == torch.float64
        with torch.autocast("cpu", enabled=False):
            assert lif(currents(dtype=torch.float32), *CONSTANTS).dtype == torch.float32


def test_a_second_derivative_is_refused():
    x = currents().requires_grad_()
    (gradient,) = torch.autograd.grad((lif(x, *CONSTANTS) * x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="lif_backward"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), "floating-point input currents, got torch.int64"),
        (torch.zeros(0, 2), r"T >= 1, got \(0, 2\)"),
        (torch.zeros(3), r"shape \(T, ...\) .* got \(3,\)"),
        (torch.tensor(1.0), r"got \(\)"),
    ],
)
def test_a_wrong_input_is_named(x, message):
    with pytest.raises(ValueError, match=message):
        lif(x, *CONSTANTS)


# torch's own, when forward mode is first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_forward_mode_is_refused_not_answered_by_zero():
    x = currents()
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(lambda x: lif(x, *CONSTANTS), (x,), (torch.ones_like(x),))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            lif(dual, *CONSTANTS)
        assert torch.equal(lif(x, *CONSTANTS), reference.lif(x, *CONSTANTS))
