"""The form of a network that is tuned, and to which the database is applied when compiling.

Both must be the same: TVM finds a record by the structure of a function, and the wrong form misses all of
them silently. So there is this one place.
"""

import tvm
from tvm import relax
from tvm.ir import IRModule


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
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.EliminateCommonSubexpr(),
        relax.get_pipeline("zero"),
        relax.transform.AttachAttrLayoutFreeBuffers(),
    ]
    with target:
        return tvm.transform.Sequential(phases)(module)
