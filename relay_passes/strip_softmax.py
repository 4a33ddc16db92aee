"""Return what a final softmax or sigmoid reads instead of its result.

A softmax of a thousand classes hides errors: its outputs are small and nearly equal. A sigmoid hides them
where it is flat: a detector that finds nothing gives 0 whatever it computes. Networks are therefore compared
before it as well.
"""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Graph, operator_of, shape_of

_KINDS = {"nn.softmax": "softmax", "nn.log_softmax": "softmax", "sigmoid": "sigmoid"}
SQUASHING = tuple(_KINDS)


@tvm.transform.module_pass(opt_level=0, name="StripSoftmax")
def strip_softmax(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make `main` return what the softmaxes and sigmoids read that it ends in; other outputs stay."""
    graph = Graph(module)
    return graph.rewrite({}, outputs=tuple(_logits(graph, output) for output in graph.outputs))


def squashing(module: tvm.IRModule) -> tuple[str | None, ...]:
    """What each output of `main` comes from: `softmax` (also its logarithm), `sigmoid`, or None."""
    graph = Graph(module)
    calls = (_squashed(graph, output) for output in graph.outputs)
    return tuple(None if call is None else _KINDS[operator_of(call)] for call in calls)


def _logits(graph: Graph, output: relax.Expr) -> relax.Expr:
    """What the softmax that `output` is reads."""
    call = _squashed(graph, output)
    if call is None:
        return output
    if graph.call(output, *SQUASHING) is not None:
        return call.args[0]
    return graph.call(call.args[0], "reshape").args[0]


def _squashed(graph: Graph, output: relax.Expr) -> relax.Call | None:
    """The softmax or sigmoid that `output` is; ONNX's softmax before opset 13 stands between two reshapes."""
    if (call := graph.call(output, *SQUASHING)) is not None:
        return call
    outer = graph.call(output, "reshape")
    call = None if outer is None else graph.call(outer.args[0], *SQUASHING)
    inner = None if call is None else graph.call(call.args[0], "reshape")
    is_between = inner is not None and shape_of(inner.args[0]) == shape_of(output)
    return call if is_between else None
