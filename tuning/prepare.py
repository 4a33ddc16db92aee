"""The form of a network that is tuned, and to which the database is applied when compiling.

Both must be the same: TVM finds a record by the structure of a function, and the wrong form misses all of
them silently. So there is this one place.
"""

import re

import tvm
from tvm import relax
from tvm.ir import IRModule

_NOT_IN_A_NAME = re.compile(r"^(?=\d)|\W", re.ASCII)


def prepare(module: IRModule, target: tvm.target.Target) -> IRModule:
    """Lower a Relax module to calls of fused TIR functions, the form that tasks are extracted from.

    Parameters
    ----------
    module : IRModule
        One function ``main`` with its weights as constants in place, not legalised.
    target : tvm.target.Target
        What it will be compiled for.

    Returns
    -------
    IRModule
        Each TIR function is marked with the arguments that are constants, whose layout tuning may change.
    """
    phases = [
        _NamesOfC(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.EliminateCommonSubexpr(),
        relax.get_pipeline("zero"),
        relax.transform.AttachAttrLayoutFreeBuffers(),
    ]
    with target:
        return tvm.transform.Sequential(phases)(module)


@relax.transform.function_pass(opt_level=0, name="NamesOfC")
class _NamesOfC:
    """Gives variables names that are some in C too: TVM writes them into OpenCL source as they are."""

    def transform_function(
        self, function: relax.Function, _: IRModule, __: tvm.transform.PassContext
    ) -> relax.Function:
        return _Renamer().visit_expr(function)


@relax.expr_functor.mutator
class _Renamer(relax.PyExprMutator):
    def visit_var_def_(self, var: relax.Var) -> relax.Var:
        return self._renamed(relax.Var, var)

    def visit_dataflow_var_def_(self, var: relax.DataflowVar) -> relax.Var:
        return self._renamed(relax.DataflowVar, var)

    def _renamed(self, kind: type[relax.Var], var: relax.Var) -> relax.Var:
        renamed = kind(_NOT_IN_A_NAME.sub("_", var.name), var.ty)
        self.set_var_remap(var, renamed)
        return renamed
