"""Builds the native library: a plain C interface, loaded with ctypes, so no Python or torch ABI."""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, find_namespace_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

if sys.platform == "darwin" and "ARCHFLAGS" not in os.environ:
    # A Python of two architectures would compile for both, and name the wheel so; torch has one.
    os.environ["ARCHFLAGS"] = f"-arch {platform.machine()}"
    target = os.environ.get("MACOSX_DEPLOYMENT_TARGET", "11.0")
    os.environ.setdefault("_PYTHON_HOST_PLATFORM", f"macosx-{target}-{platform.machine()}")
# What is compiled for: this machine, or what ARCHFLAGS names; for several, the portable kernels.
TARGETS = os.environ.get("ARCHFLAGS", "").replace("-arch", "").split() or [platform.machine()]
X86 = all(target.lower() in ("x86_64", "amd64") for target in TARGETS)
# The library takes torch's OpenMP at load time: linking one would start a second pool of threads.
# Apple's compiler has none, so on macOS the kernels run on one thread.
OPENMP = ["-fopenmp"] if sys.platform == "linux" else []
# -ffp-contract=off: a fused multiply-add rounds once where torch rounds twice.
# -Wno-maybe-uninitialized: GCC 12 warns about its own intrinsics header.
FLAGS = ["-O3", "-std=c++17", "-fvisibility=hidden", "-ffp-contract=off", *OPENMP]
FLAGS += ["-Wall", "-Wno-maybe-uninitialized"]
FLAGS += ["-DMSR_X86"] if X86 else []  # the sources of `ISA_FLAGS` are linked
AVX2 = ["-mavx2", "-mfma", "-mpopcnt"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
# Vectors are written out for AVX-512; those that GCC would make of a pixel's few words are slower.
AS_WRITTEN = ["-fno-tree-slp-vectorize"]
ISA_FLAGS = {
    "isa_avx2.cpp": AVX2,
    "isa_avx512.cpp": [*AVX512, *AS_WRITTEN],
    "isa_avx512vbmi2.cpp": [*AVX512, "-mavx512vbmi2", *AS_WRITTEN],
}
# Compilers before GCC 11 and clang 12 lack these; the source then holds nothing but "not ready".
AMX_FLAGS = {"product_amx.cpp": [*AVX512, "-mamx-tile", "-mamx-int8"]} if X86 else {}


class BuildNative(build_ext):
    """Compiles each source with the flags of its instruction set, or says that it could not."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        try:
            self.compile_and_link(ext)
        except (CCompilerError, ExecError, PlatformError, OSError) as error:
            self.extensions = []  # nothing to copy beside the sources
            print(f"msr_zoo is installed without its native kernels, which are faster: {error}")

    def compile_and_link(self, ext: Extension) -> None:
        objects: list[str] = []
        for source in ext.sources:
            flags = FLAGS + ISA_FLAGS.get(Path(source).name, [])
            try:
                objects += self.compile_one(source, flags + AMX_FLAGS.get(Path(source).name, []))
            except CCompilerError:
                if Path(source).name not in AMX_FLAGS:
                    raise
                objects += self.compile_one(source, flags)
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, target, target_lang="c++")

    def compile_one(self, source: str, flags: list[str]) -> list[str]:
        built: list[str] = self.compiler.compile(
            [source], self.build_temp, extra_postargs=flags, depends=self.extensions[0].depends
        )
        return built


class PlatformWheel(bdist_wheel):
    """A wheel for every Python of one platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def sources() -> list[str]:
    found = sorted(Path("csrc").glob("*.cpp"))
    return [str(path) for path in found if X86 or path.name not in ISA_FLAGS]


setup(
    # The page is a folder of its own, which a Hugging Face Space can be; "app" would be a name
    # that others may have.
    packages=[*find_namespace_packages(include=["msr_zoo*"]), "msr_zoo_app"],
    package_dir={"msr_zoo_app": "app"},
    ext_modules=[
        Extension(
            "msr_zoo._native",
            sources(),
            depends=sorted(str(p) for p in Path("csrc").iterdir() if p.suffix != ".cpp"),
        )
    ],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": PlatformWheel},
)
