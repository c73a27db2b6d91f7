"""Booleans packed eight to a byte: bit j of byte k of a row is element 8k + j of that row."""

from typing import Any

import torch
from torch import Tensor

# Eight bytes that are 0 or 1, read as one little-endian int64 and multiplied by this, leave their
# bits in order in the top byte: byte i is shifted by 56 - 7i, so it lands on bit 56 + i.
_GATHER = sum(1 << (56 - 7 * i) for i in range(8))


def bytes_of(size: Any) -> Any:
    """Bytes that so many booleans take; of whatever integers a tracer counts with."""
    return (size + 7) // 8


def pack_bits(flags: Tensor) -> Tensor:
    """Turn contiguous bool (R, N) into uint8 (R, ceil(N / 8)); missing elements count as 0."""
    if rest := -flags.shape[1] % 8:
        flags = torch.nn.functional.pad(flags, (0, rest))
    return (flags.view(torch.int64) * _GATHER >> 56).to(torch.uint8)


def unpack_bits(bits: Tensor, size: int) -> Tensor:
    """Turn uint8 (R, ceil(size / 8)) back into bool (R, size)."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    flags = bits.unsqueeze(-1).bitwise_right_shift(shifts).bitwise_and_(1)
    return flags.view(torch.bool).flatten(1)[:, :size]
