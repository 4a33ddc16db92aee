"""How the OpenCL runtime is built by installing the project."""

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

from targets.runtime import opencl

ROOT = Path(opencl.__file__).parents[3]


def test_it_is_built_with_the_headers_of_the_tvm_that_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = {each for each in project["project"]["dependencies"] if each.startswith("apache-tvm")}
    assert len(pins) == 2
    assert pins < set(project["build-system"]["requires"])


def test_tvm_finds_it():
    (entry,) = (each for each in entry_points(group="tvm.backends") if each.name == "deeprebirth")
    assert entry.load() is opencl.load


def test_its_sources_are_installed_for_boards():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["targets"]
    sources = {path for pattern in patterns for path in (ROOT / "targets").glob(pattern)}
    assert {*Path(opencl.__file__).parent.glob("*.cc"), *Path(opencl.__file__).parent.glob("*.h")} < sources
