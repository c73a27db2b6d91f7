"""Every instruction set that the native library has a version for."""

import pytest

from msr_zoo.kernels import native

WIDEST = 3


@pytest.fixture(params=[0, 1, 2, 3], ids=["portable", "avx2", "avx512", "vbmi2"])
def isa(request):
    """Run a test by one instruction set; skip those that the processor or the library lacks."""
    if native.library is None:
        pytest.skip("the native library was not built")
    if native.select_isa(request.param) != request.param:
        native.select_isa(WIDEST)
        pytest.skip("this processor does not have it")
    yield
    native.select_isa(WIDEST)
