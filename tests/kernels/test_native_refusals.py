"""Tensors that the convolutions of spikes cannot read are refused before any memory is touched."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msr_zoo.kernels import native, native_conv, packing

pytestmark = pytest.mark.skipif(native.library is None, reason="the native library was not built")

DECAY, THRESHOLD = 0.25, 0.5


def arguments() -> dict[str, object]:
    """A call of `conv_lif` that is as it should be."""
    lanes = 16
    return {
        "spikes": native_conv.silent(3, 2, 5, 4, lanes),
        "weight": packing.pack_weight(torch.zeros(lanes, lanes, 3, 3)),
        "fired": native_conv.silent(3, 2, 5, 4, lanes),
        "lanes_in": lanes,
        "stride": 1,
        "norm": native_conv.Norm(scale=torch.ones(lanes), shift=torch.zeros(lanes)),
        "decay": DECAY,
        "threshold": THRESHOLD,
        "residual": torch.zeros(3, 2, 5, 4, lanes),
        "potential": torch.zeros(3, 2, 5, 4, lanes),
    }


def call(**changes: object) -> Tensor:
    given = {**arguments(), **changes}
    spikes, weight, fired = (given.pop(name) for name in ("spikes", "weight", "fired"))
    return native_conv.conv_lif(spikes, weight, fired, **given)


WRONG_KINDS = [
    ("spikes", native_conv.silent(3, 2, 5, 4, 16).int()),
    ("spikes", native_conv.silent(3, 2, 4, 5, 16).transpose(2, 3)),
    ("fired", native_conv.silent(3, 2, 5, 4, 16).float()),
    ("fired", native_conv.silent(3, 2, 5, 4, 16).to("meta")),
    ("residual", torch.zeros(3, 2, 5, 4, 16, dtype=torch.float64)),
    ("residual", torch.zeros(3, 2, 5, 16, 4).movedim(3, 4)),
    ("residual", torch.zeros(3, 2, 5, 4, 1).expand(-1, -1, -1, -1, 16)),
    ("potential", torch.zeros(3, 2, 5, 4, 16, dtype=torch.bfloat16)),
]
WRONG_SIZES = [
    ("spikes", native_conv.silent(3, 1, 5, 4, 16)),
    ("spikes", native_conv.silent(3, 2, 5, 5, 16)),
    ("spikes", native_conv.silent(3, 2, 5, 4, 128)),
    ("stride", 2),
    ("lanes_in", 32),
    ("weight", packing.pack_weight(torch.zeros(16, 32, 3, 3))),
    ("weight", packing.pack_weight(torch.zeros(128, 16, 3, 3))),
    ("fired", native_conv.silent(3, 2, 5, 3, 16)),
    ("residual", torch.zeros(2, 2, 5, 4, 16)),
    ("residual", torch.zeros(3, 2, 4, 4, 16)),
    ("potential", torch.zeros(1, 2, 5, 4, 16)),
    ("potential", torch.zeros(3, 2, 3, 2, 16)),
    ("potential_stride", 2),
    ("potential_stride", 3),
    ("norm", native_conv.Norm(scale=torch.ones(32), shift=torch.zeros(32))),
    ("residual_norm", native_conv.Norm(scale=torch.ones(8), shift=torch.zeros(8))),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG_KINDS)
def test_tensors_of_another_kind_are_refused(name, wrong):
    call()
    with pytest.raises(TypeError, match=f"{name} must be contiguous torch.(int64|float32) on the"):
        call(**{name: wrong})


@pytest.mark.parametrize(("name", "wrong"), WRONG_SIZES)
def test_tensors_of_another_size_are_refused(name, wrong):
    with pytest.raises(ValueError, match=r"must be|must have|do not give"):
        call(**{name: wrong})


def test_the_residual_itself_cannot_be_kept_sparsely():
    kept = torch.zeros(3, 2, 5, 4, 16)
    call(residual=kept, potential=kept)
    with pytest.raises(ValueError, match="may not be the residual itself"):
        call(residual=kept, potential=kept, potential_stride=2)


def test_the_residual_itself_cannot_be_kept_in_one_step_for_several():
    kept, fired = torch.zeros(1, 2, 5, 4, 16), native_conv.silent(3, 2, 5, 4, 16)
    given = {"decay": DECAY, "threshold": THRESHOLD, "residual": kept}
    native_conv.dense_lif(kept, fired, **given, potential=torch.empty_like(kept))
    with pytest.raises(ValueError, match="may not be the residual itself for 3 steps in one"):
        native_conv.dense_lif(kept.clone(), fired, **given, potential=kept)


@pytest.mark.parametrize("shape", [(0, 2, 5, 4), (3, 0, 5, 4), (3, 2, 0, 4), (3, 2, 5, 0)])
def test_what_is_empty_is_refused(shape):
    empty = {name: native_conv.silent(*shape, 16) for name in ("spikes", "fired")}
    with pytest.raises(ValueError, match="fired must hold a step, a picture and a pixel"):
        call(**empty, residual=None, potential=None)
    with pytest.raises(ValueError, match="fired must hold"):
        native_conv.dense_lif(
            torch.zeros(*shape, 16), empty["fired"], decay=DECAY, threshold=THRESHOLD
        )


def test_kernels_and_strides_that_there_are_not_are_refused():
    for changes in (
        {"weight": packing.pack_weight(torch.zeros(16, 16, 5, 5))},
        {"stride": 0},
        {"stride": -1},
    ):
        with pytest.raises(ValueError, match="kernels must be 1 or 3 wide and strides at least 1"):
            call(**changes)


def test_weights_and_norms_that_no_kernel_can_read_are_refused():
    with pytest.raises(TypeError, match="scale must be contiguous"):
        native_conv.Norm(scale=torch.ones(16).double(), shift=torch.zeros(16))
    with pytest.raises(ValueError, match="shift must be"):
        native_conv.Norm(scale=torch.ones(16), shift=torch.zeros(15))
    packed = packing.pack_weight(torch.zeros(16, 16, 3, 3))
    with pytest.raises(TypeError, match="packed weights must be contiguous"):
        replace(packed, data=packed.data.double())
    with pytest.raises(ValueError, match="packed weights must be 2320 numbers"):
        replace(packed, data=packed.data[:, :-1].contiguous())
    with pytest.raises(TypeError, match="fired must be contiguous"):
        native_conv.count_channels(native_conv.silent(1, 1, 2, 2, 16).int())
    with pytest.raises(TypeError, match="dense must be contiguous"):
        native_conv.dense_lif(
            torch.zeros(1, 1, 2, 2, 16, dtype=torch.float64),
            native_conv.silent(1, 1, 2, 2, 16),
            decay=DECAY,
            threshold=THRESHOLD,
        )
