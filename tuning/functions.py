"""The functions that a network calls: how often, with which arguments, and what each does on the device.

A function of a processor is one call. For a GPU TVM splits a function into kernels, which the host launches
one after the other: ``f_kernel``, ``f_kernel_1`` and so on stand in the source that goes to the driver.
"""

import re
from collections import Counter
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule

from tuning.building.opencl_source import device_source
from tuning.errors import TuningError
from tuning.measuring.kernel import Arguments, arguments_of

_KERNEL = re.compile(r"^// Function: (\w+?)_kernel(?:_\d+)?$", re.MULTILINE)
_OF_THE_MACHINE = "vm."


@dataclass(frozen=True)
class NetworkFunction:
    """A function of a compiled network.

    Attributes
    ----------
    name : str
    calls : int
        How often one inference calls it.
    kernels : int
        Kernels that one call launches; 1 where the processor runs it.
    arguments : tuple of (str, tuple of int)
        Type and shape of each argument.
    """

    name: str
    calls: int
    kernels: int
    arguments: Arguments

    @property
    def launches(self) -> int:
        """Kernels that it launches in one inference."""
        return self.calls * self.kernels


class Calls:
    """Counts the calls in ``main``, as a phase among those that lower it."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._arguments: dict[str, Arguments] = {}
        self._foreign: set[str] = set()

    def as_pass(self) -> tvm.transform.Pass:
        """Return the phase; calls of TIR functions must have been rewritten, the rest may be as it is."""

        @tvm.transform.module_pass(opt_level=0, name="CountCalls")
        def count_calls(module: IRModule, _: tvm.transform.PassContext) -> IRModule:
            for name, function in module.functions_items():
                if isinstance(function, tvm.tirx.PrimFunc):
                    self._arguments[name.name_hint] = arguments_of(function)
            relax.analysis.post_order_visit(module["main"].body, self._add)
            return module

        return count_calls

    def functions(self, executable: tvm.runtime.Module | None) -> tuple[NetworkFunction, ...]:
        """Return the functions by name.

        Parameters
        ----------
        executable : Module or None
            What was built for a GPU: its kernels are counted. None if the processor runs all.

        Raises
        ------
        TuningError
            If the processor would run a part of a GPU's network.
        """
        kernels = dict.fromkeys(self._calls, 1) if executable is None else kernels_of(executable)
        left = sorted(self._calls.keys() - kernels) + (sorted(self._foreign) if executable else [])
        if left:
            raise TuningError(f"not all of the network runs on the GPU: {', '.join(left)} would not")
        return tuple(
            NetworkFunction(name, calls, kernels[name], self._arguments[name])
            for name, calls in sorted(self._calls.items())
        )

    def _add(self, expression: relax.Expr) -> None:
        if not isinstance(expression, relax.Call):
            return
        if isinstance(expression.op, tvm.ir.GlobalVar):
            self._calls[expression.op.name_hint] += 1
        elif isinstance(expression.op, relax.ExternFunc):
            name = str(expression.op.global_symbol)
            if not name.startswith(_OF_THE_MACHINE):
                self._foreign.add(name)


def kernels_of(module: tvm.runtime.Module) -> Counter[str]:
    """Count the kernels of each function in the OpenCL source that a module holds."""
    return Counter(_KERNEL.findall(device_source(module)))
