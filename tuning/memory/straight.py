"""The bindings of ``main``, one after the other, and what they do to tensors."""

from collections.abc import Iterable

import tvm
from tvm import relax
from tvm.ir import Expr, GlobalVar, IRModule, Op


def bindings_of(module: IRModule) -> list[relax.Binding]:
    """Return the bindings of ``main`` in order."""
    return [binding for block in module["main"].body.blocks for binding in block.bindings]


def with_bindings(module: IRModule, bindings: Iterable[relax.Binding]) -> IRModule:
    """Return the module with these bindings in ``main``; the result of ``main`` stays the variable it is."""
    main = module["main"]
    body = relax.SeqExpr([relax.BindingBlock(list(bindings))], main.body.body)
    changed = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    functions = {**dict(module.functions_items()), module.get_global_var("main"): changed}
    return relax.transform.Normalize()(IRModule(functions, attrs=module.attrs))


def is_call(expression: Expr, name: str) -> bool:
    """Return whether an expression calls Relax's operator of this name."""
    return isinstance(expression, relax.Call) and expression.op == Op.get(name)


def called(module: IRModule, expression: Expr) -> GlobalVar | None:
    """Return the TIR function that an expression calls, if it is such a call."""
    if not isinstance(expression, relax.Call) or not isinstance(expression.op, GlobalVar):
        return None
    return expression.op if isinstance(module[expression.op], tvm.tirx.PrimFunc) else None


def source_of(expression: Expr) -> Expr | None:
    """Return the tensor whose memory an expression gives another name or shape; None if it does neither."""
    if isinstance(expression, relax.Var):
        return expression
    return expression.args[0] if is_call(expression, "relax.reshape") else None
