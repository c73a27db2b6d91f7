"""A native library that cannot be used is told apart from one that was never built."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from msr_zoo.event_fit import why_not
from msr_zoo.kernels import native
from msr_zoo.models.ms_resnet import MSResNet


def build(folder: Path, source: str) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (folder / "library.cpp").write_text(source)
    path = folder / "_native.so"
    command = [compiler, "-shared", "-fPIC", str(folder / "library.cpp"), "-o", str(path)]
    subprocess.run(command, check=True)
    return path


def test_a_library_that_is_not_there_was_not_built(tmp_path):
    assert native.load(tmp_path / "_native.so") == (None, "the native library was not built")


def test_a_library_that_fails_to_load_says_why(tmp_path):
    path = tmp_path / "_native.so"
    path.write_text("no library")
    library, problem = native.load(path)
    assert library is None
    assert problem.startswith("the native library failed to load: ")
    assert str(path) in problem


@pytest.mark.parametrize(
    ("source", "abi"),
    [
        ('extern "C" int msr_isa() { return 0; }', 0),
        ('extern "C" int msr_abi() { return 99; }', 99),
    ],
)
def test_a_library_of_other_sources_is_not_used(tmp_path, source, abi):
    library, problem = native.load(build(tmp_path, source))
    assert library is None
    assert problem == (
        f"_native.so was built from other sources (ABI {abi}, not {native.ABI}): build again"
    )


def test_the_engine_tells_the_reason(monkeypatch):
    monkeypatch.setattr(native, "library", None)
    monkeypatch.setattr(native, "problem", "the native library failed to load: a reason")
    model = MSResNet((1,), (16,), num_classes=3)
    assert why_not(model) == "the native library failed to load: a reason"
