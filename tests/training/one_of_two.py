"""What one of two processes does in test_processes.py: python one_of_two.py FOLDER."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from processes import Processes
from sync_norm import SyncBatchNorm2d

folder = Path(sys.argv[1])
processes = Processes.join()
rank = processes.rank
shares = torch.load(folder / "shares.pt", weights_only=True)
results = {
    "any": [processes.any(False, rank == 1), processes.any(rank == 0, False)],
    "sum": processes.sum(torch.tensor([1.0 + rank])),
    # Only the first one's disk holds a checkpoint.
    "found": processes.load(folder / f"disk{rank}" / "last.pt"),
    "nothing": processes.load(folder / "nowhere.pt"),
}
for name, share in shares.items():
    norm = SyncBatchNorm2d(3, momentum=1.0)  # so that it keeps this batch's statistics alone
    x = share["x"].chunk(2)[rank].clone().requires_grad_()
    y = norm(x)
    (y * share["grad"].chunk(2)[rank]).sum().backward()
    results[name] = {
        "y": y.detach(),
        "x_grad": x.grad,
        "running": torch.stack([norm.running_mean, norm.running_var]),
        "grads": torch.stack([norm.weight.grad, norm.bias.grad]),
    }
torch.save(results, folder / f"results{rank}.pt")
dist.destroy_process_group()
