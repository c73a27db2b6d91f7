"""What two processes of one run know together, and their batch norm against one of all data."""

from pathlib import Path

import torch

from processes import Processes

CASES = ("ordinary", "means apart", "large mean, tiny spread")


def normed(share):
    """What batch norm makes of all data, in float64."""
    norm = torch.nn.BatchNorm2d(3, momentum=1.0).double()
    x = share["x"].double().requires_grad_()
    y = norm(x)
    (y * share["grad"].double()).sum().backward()
    running = torch.stack([norm.running_mean, norm.running_var])
    return {
        "y": y.detach(), "x_grad": x.grad, "running": running,
        "grads": torch.stack([norm.weight.grad, norm.bias.grad]),
    }  # fmt: skip


def test_two_processes_agree(start_two, tmp_path):
    torch.manual_seed(0)
    shares = {name: {k: torch.randn(8, 3, 4, 4) for k in ("x", "grad")} for name in CASES}
    shares["means apart"]["x"][4:] += 30
    # Float32 knows the square of 1,000 to 0.06, and the variance is 0.0001.
    shares["large mean, tiny spread"]["x"] = 1000 + 0.01 * shares["ordinary"]["x"]
    torch.save(shares, tmp_path / "shares.pt")
    (tmp_path / "disk0").mkdir()
    torch.save({"step": 7, "model": torch.arange(3)}, tmp_path / "disk0" / "last.pt")

    script = Path(__file__).parent / "one_of_two.py"
    started = start_two([script, tmp_path], [script, tmp_path])
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    both = [torch.load(tmp_path / f"results{rank}.pt", weights_only=True) for rank in (0, 1)]
    for results in both:
        assert results["any"] == [[False, True], [True, False]]
        assert results["sum"].tolist() == [3.0]
        assert results["found"]["step"] == 7
        assert results["found"]["model"].tolist() == [0, 1, 2]
        assert results["nothing"] is None
    for name in CASES:
        # A float32 near 1,000 is exact to 0.00006, 0.6 % of the spread there.
        error = 0.02 if name.startswith("large") else 1e-5
        parts = [results[name] for results in both]
        mine = {key: torch.cat([part[key] for part in parts]) for key in ("y", "x_grad")}
        mine["grads"] = sum(part["grads"] for part in parts)
        for key, expected in normed(shares[name]).items():
            if key == "running":
                for part in parts:
                    torch.testing.assert_close(part[key].double(), expected, rtol=error, atol=0)
                continue
            # Gradients of inputs nearly cancel, so their error is that of the largest.
            atol = error * float(expected.abs().max())
            torch.testing.assert_close(mine[key].double(), expected, rtol=0, atol=atol, msg=name)


def test_one_process_asks_nobody(tmp_path):
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.any(True, False) == [True, False]
    assert alone.sum(torch.ones(2)).tolist() == [1.0, 1.0]
    assert alone.load(tmp_path / "last.pt") is None
