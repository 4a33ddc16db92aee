"""Put the bodies of composite functions back in their place, to be compiled with their neighbours."""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Emitter, Graph


@tvm.transform.module_pass(opt_level=0, name="InlineComposites")
def inline_composites(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Replace each call of a composite function by the layers of its body."""
    graph = Graph(module)
    calls = {var: body for var in graph.layers if (body := graph.composite(var)) is not None}
    return graph.rewrite(
        {
            var: lambda emit, var=var, body=body: _inlined(emit, graph, var, body)
            for var, body in calls.items()
        }
    )


def _inlined(emit: Emitter, graph: Graph, var: relax.Var, body: relax.Function) -> relax.Expr:
    arguments = [emit(argument) for argument in graph.value[var].args]
    bound = dict(zip(body.params, arguments, strict=True))
    *steps, last = (binding for block in body.body.blocks for binding in block.bindings)
    for step in steps:
        bound[step.var] = emit.layer(f"{var.name}.{step.var.name}", _substituted(step.value, bound))
    return _substituted(last.value, bound)


def _substituted(call: relax.Call, bound: dict[relax.Var, relax.Expr]) -> relax.Call:
    arguments = [bound[arg] if isinstance(arg, relax.Var) else arg for arg in call.args]
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)
