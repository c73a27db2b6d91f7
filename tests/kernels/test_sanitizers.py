"""The native kernels under the address and undefined-behaviour sanitizers, on exact heap blocks."""

import os
import runpy
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_kernel_touches_a_byte_too_many(tmp_path):
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    with mock.patch("setuptools.setup"):
        build = runpy.run_path(str(ROOT / "setup.py"))
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    flags = [flag for flag in build["FLAGS"] if flag not in ("-O3", *build["OPENMP"])]
    objects = []
    for source in [*map(Path, build["sources"]()), Path("tests/native/sizes.cpp")]:
        objects.append(str(tmp_path / f"{source.stem}.o"))
        isa = {**build["ISA_FLAGS"], **build["AMX_FLAGS"]}.get(source.name, [])
        command = [compiler, *flags, *isa, *sanitize, "-Icsrc", "-c", str(source)]
        subprocess.run([*command, "-o", objects[-1]], cwd=ROOT, check=True)
    program = str(tmp_path / "sizes")
    subprocess.run([compiler, *sanitize, *objects, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
