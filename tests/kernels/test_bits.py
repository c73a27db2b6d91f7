"""Packed booleans against numpy's."""

import numpy as np
import pytest
import torch

from msr_zoo.kernels.bits import pack_bits, unpack_bits


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 1001])
def test_pack_bits_equals_numpy(rows, size):
    torch.manual_seed(size)
    flags = torch.rand(rows, size) < 0.3
    packed = pack_bits(flags)
    expected = np.packbits(flags.numpy(), axis=1, bitorder="little")
    assert packed.dtype == torch.uint8
    assert np.array_equal(packed.numpy(), expected)
    assert torch.equal(unpack_bits(packed, size), flags)


def test_every_byte_comes_back():
    flags = torch.from_numpy(
        np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    ).bool()
    packed = pack_bits(flags)
    assert packed.flatten().tolist() == list(range(256))
    assert torch.equal(unpack_bits(packed, 8), flags)
