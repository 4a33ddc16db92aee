"""TVM's plan of a network's memory, in which concatenated tensors lie where their concatenation wants them.

What writes such a tensor writes a part of the whole, and the copy is gone. To TVM's planner the parts are
views of the whole, which therefore stays from the first part's writer to the last reader of any.
"""

import tvm
from tvm import relax

from tuning.memory.offsets import Offsets
from tuning.memory.placement import Placement


def plan_memory() -> tvm.transform.Pass:
    """Return the phase; calls of TIR functions must have been rewritten to write into their last arguments.

    The target must be in scope. On a processor concatenations are written in place; on a GPU a tensor cannot
    begin inside another's memory.
    """
    return tvm.transform.Sequential([Placement(), relax.transform.StaticPlanBlockMemory(), Offsets()])
