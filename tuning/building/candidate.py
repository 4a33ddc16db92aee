"""Builds one candidate into a shared library: the work of a worker process, here or on a cluster.

Upstream's build function imports the tensor intrinsics first, for 15 to 20 seconds; building needs none of
them. The artefact is a shared library, which a device loads without a compiler.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import te
from tvm.ir import IRModule
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

from targets import Gpu, TargetInfo
from targets.elf import check_library
from tuning.building.gpu_limits import within_limits
from tuning.errors import TuningError
from tuning.failures import Cause, Failure
from tuning.interrupts import held_back
from tuning.untuned import schedule_untuned

LIBRARY = "candidate.so"


@dataclass(frozen=True)
class Recipe:
    """What all builds for a target have in common.

    Attributes
    ----------
    target : str
        TVM's target as JSON, its processor by name: a builder elsewhere may have another one.
    triple : str
        What the library's machine is checked against.
    compiler : str
        The C++ compiler that links for the device.
    gpu : Gpu or None
        What kernels are held to; None if the processor runs the code.
    """

    target: str
    triple: str
    compiler: str
    gpu: Gpu | None = None

    @classmethod
    def of(cls, target: TargetInfo, compiler: str) -> "Recipe":
        """Return the recipe for a target with one compiler."""
        with held_back():
            return cls(tvm.ir.save_json(target.target()), target.triple, compiler, target.gpu)


def build_candidate(module: IRModule, recipe: Recipe, path: str) -> Failure | None:
    """Build one candidate into the shared library ``path``, whose folder is made.

    It is built for the recipe's target, or for that which the function names itself.

    The block that rearranges the weights is removed: a compiled network holds them rearranged already, so it
    is no part of what is measured, and the runner makes its arguments in the rearranged shape.

    Returns
    -------
    Failure or None
        Why there is no library: a kernel wants more than the GPU has.

    Raises
    ------
    TuningError
        If the compiler cannot link it, or links for another machine.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
    try:
        with within_limits(recipe.gpu):
            built = tvm.tirx.build(module, target=tvm.ir.load_json(recipe.target))
    except TuningError as beyond:
        return Failure(Cause.BEYOND_LIMITS, str(beyond))
    built.export_library(path, fcompile=_Linker(recipe.compiler))
    check_library(Path(path), recipe.triple)
    return None


def build_trivial(recipe: Recipe, path: str) -> None:
    """Build a function of one loop into the shared library ``path``; raises as ``build_candidate``."""
    values = te.placeholder((64,), name="values")
    doubled = te.compute((64,), lambda i: values[i] * 2, name="doubled")
    module = tvm.IRModule({"main": te.create_prim_func([values, doubled])})
    if recipe.gpu is not None:
        module = schedule_untuned(module, tvm.ir.load_json(recipe.target))
    build_candidate(module, recipe, path)


class _Linker:
    """Links as TVM does, and tells a failure in one line."""

    def __init__(self, compiler: str) -> None:
        self._compiler = compiler

    def __call__(self, path: str, objects: Sequence[str], options: Sequence[str] | None = None) -> None:
        command = [self._compiler, "-shared", "-fPIC", "-o", path, *(options or ()), *objects]
        linked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if linked.returncode != 0:
            said = linked.stderr.decode(errors="replace").strip().splitlines()
            cause = said[0] if said else f"it ended with code {linked.returncode}"
            raise TuningError(f"{Path(self._compiler).name} cannot link: {cause}")
