"""Builds the OpenCL plug-in, if a C++ compiler and OpenCL's headers are there.

Everything else about the project is in pyproject.toml.
"""

from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PLUGIN = "targets.runtime.opencl.libtvm_runtime_opencl"
SOURCES = Path("targets/runtime/opencl")


def parts_of(package: str, *parts: str) -> list[str]:
    """Return folders inside an installed package, which is not imported."""
    (home,) = find_spec(package).submodule_search_locations
    return [str(Path(home, part)) for part in parts]


class Build(build_ext):
    """Names the library as TVM does, without the suffix of Python's own modules."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return where an extension lies in its package."""
        return str(Path(*fullname.split("."))) + ".so"


setup(
    cmdclass={"build_ext": Build},
    ext_modules=[
        Extension(
            PLUGIN,
            sources=sorted(map(str, SOURCES.glob("*.cc"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            include_dirs=parts_of("tvm", "include") + parts_of("tvm_ffi", "include"),
            library_dirs=parts_of("tvm", "lib") + parts_of("tvm_ffi", "lib"),
            libraries=["tvm_runtime", "tvm_ffi", "dl"],
            extra_compile_args=["-std=c++17", "-O2", "-g0", "-fvisibility=hidden"],
            extra_link_args=["-Wl,-s"],
            optional=True,
        )
    ],
)
