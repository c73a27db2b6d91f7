"""Every instruction set that the native library has a version for."""

import pytest

from msr_zoo.kernels import native

WIDEST = len(native.ISAS) - 1


@pytest.fixture(params=range(len(native.ISAS)), ids=native.ISAS)
def isa(request):
    """Run a test by one instruction set; skip those that the processor or the library lacks."""
    if native.library is None:
        pytest.skip("the native library was not built")
    if native.select_isa(request.param) != request.param:
        native.select_isa(WIDEST)
        pytest.skip("this processor does not have it")
    yield
    native.select_isa(WIDEST)
