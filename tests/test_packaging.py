"""What is built: a source archive with the kernels in it, and a wheel where no compiler is."""

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("setuptools", minversion="77")

ROOT = Path(__file__).parents[1]
BUILT = ("build", "*.egg-info", "__pycache__", "_native.so")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The project as it is checked out, without what was built in it."""
    folder = tmp_path_factory.mktemp("project") / "msr_zoo"
    folder.mkdir()
    for name in ("app", "csrc", "msr_zoo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*BUILT))
    for name in ("LICENSE", "MANIFEST.in", "README.md", "msr_zoo_cli.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copy(ROOT / "setup.py", folder)
    return folder


def built(folder: Path, what: str, out: Path, **environment: str) -> tuple[Path, str]:
    """What setuptools makes of a project, and all that it says."""
    code = f"from setuptools import build_meta; print(build_meta.{what}({str(out)!r}))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return out / result.stdout.split()[-1], result.stdout


def test_the_source_archive_holds_the_kernels(sources, tmp_path):
    archive, _ = built(sources, "build_sdist", tmp_path)
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    kernels = {f"csrc/{path.name}" for path in (ROOT / "csrc").iterdir()}
    assert len(kernels) > 10
    assert kernels | {"setup.py", "msr_zoo_cli.py", "LICENSE", "app/page.css"} <= names


def test_without_a_compiler_a_wheel_comes_out_and_one_sentence(sources, tmp_path):
    missing = str(tmp_path / "no-such-compiler")
    wheel, said = built(sources, "build_wheel", tmp_path, CC=missing, CXX=missing)
    names = zipfile.ZipFile(wheel).namelist()
    assert {"msr_zoo/kernels/reference.py", "msr_zoo_app/app.py", "msr_zoo_app/page.css"} <= {
        *names
    }
    assert not [name for name in names if name.endswith("_native.so")]
    told = [line for line in said.splitlines() if "without its native kernels" in line]
    assert len(told) == 1
    assert missing in told[0]


@pytest.mark.parametrize(
    ("machine", "flags", "x86"),
    [
        ("arm64", None, False),
        ("x86_64", None, True),
        ("arm64", "-arch x86_64", True),
        ("arm64", "-arch arm64 -arch x86_64", False),
    ],
)
def test_on_macos_the_kernels_are_those_of_what_is_compiled_for(monkeypatch, machine, flags, x86):
    monkeypatch.chdir(ROOT)
    sysconfig.get_config_vars()  # which Python reads once, from a file of its true platform
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    for name in ("_PYTHON_HOST_PLATFORM", "ARCHFLAGS", "MACOSX_DEPLOYMENT_TARGET"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if flags is not None:
        monkeypatch.setenv("ARCHFLAGS", flags)
    with mock.patch("setuptools.setup"):
        build = runpy.run_path(str(ROOT / "setup.py"))
    assert ("-DMSR_X86" in build["FLAGS"]) == x86
    assert any("avx2" in source for source in build["sources"]()) == x86
    assert "-fopenmp" not in build["FLAGS"]
    # One architecture of a Python that has two, unless the caller says which.
    assert os.environ["ARCHFLAGS"] == (flags or f"-arch {machine}")
    expected = None if flags else f"macosx-11.0-{machine}"
    assert os.environ.get("_PYTHON_HOST_PLATFORM") == expected
