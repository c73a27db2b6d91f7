"""torch.compile and torch.export take whole networks in one graph."""

import pytest
import torch
from shrunk import randomised, shrunk
from torch import Tensor, nn

COMPILED = [
    "msresnet20",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "msresnet18",
            "msresnet104",
            "spiking_resnet20",
            "sew_resnet20",
            "resnet_twin20",
        )
    ),
]


def run(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    model.zero_grad()
    logits = model(x)
    logits.square().sum().backward()
    return [logits.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 4, 3, 16, 16)])
def test_one_graph_forward_and_backward(name, shape):
    model = randomised(shrunk(name, in_chans=3)).eval()
    x = torch.randn(shape, dtype=torch.float64)
    expected = run(model, x)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for result, value in zip(run(compiled, x), expected, strict=True):
        torch.testing.assert_close(result, value, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msresnet18", "msresnet20"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_inductor_compiles_one_graph(name, memory_format):
    model = randomised(shrunk(name)).train().to(memory_format=memory_format)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64).to(memory_format=memory_format)
    expected = run(model, x)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    for result, value in zip(run(compiled, x), expected, strict=True):
        torch.testing.assert_close(result, value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 4, 3, 16, 16)])
def test_export_with_any_batch_size(name, shape):
    model = randomised(shrunk(name, in_chans=3)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    x = torch.randn(shape, dtype=torch.float64)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    for size in (2, 1, 5):
        x = torch.randn(size, *shape[1:], dtype=torch.float64)
        torch.testing.assert_close(exported(x), model(x), rtol=1e-9, atol=1e-12)
