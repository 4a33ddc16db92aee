"""TVM's ONNX importer, told which of its values is which tensor of the user's.

TVM calls all values `lv17`, but keeps the order of the outputs: so every tensor leaves the network while TVM
imports it, and all but the network's own outputs are taken back afterwards.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from pipeline.errors import ImportRefused


def import_traced(
    model: onnx.ModelProto, tensors: Iterable[str]
) -> tuple[tvm.IRModule, dict[str, relax.Expr]]:
    """Import a model.

    Parameters
    ----------
    model : onnx.ModelProto
    tensors : iterable of str
        Outputs of nodes that are to be found again.

    Returns
    -------
    tvm.IRModule, dict of str to relax.Expr
        The module, and what TVM computes each of the tensors by.

    Raises
    ------
    ImportRefused
        If TVM cannot import it.
    """
    own = [output.name for output in model.graph.output]
    further = [name for name in dict.fromkeys(tensors) if name not in own]
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    traced.graph.output.extend(onnx.ValueInfoProto(name=name) for name in further)
    module = _imported(traced)
    returned = _returned(module["main"])
    if further:
        module["main"] = _returning(module["main"], returned[: len(own)])
    return module, dict(zip((*own, *further), returned, strict=True))


def _imported(model: onnx.ModelProto) -> tvm.IRModule:
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            return from_onnx(model, keep_params_in_input=True, sanitize_input_names=False)
    except Exception as error:
        where = printed.getvalue().partition(", with inputs")[0]
        raise ImportRefused(f"TVM cannot import the model: {where} {error}") from None


def _returned(function: relax.Function) -> tuple[relax.Expr, ...]:
    binding = function.body.blocks[-1].bindings[-1]
    if isinstance(binding.value, relax.Tuple):
        return tuple(binding.value.fields)
    return (binding.value if isinstance(binding.value, relax.Var) else binding.var,)


def _returning(function: relax.Function, values: tuple[relax.Expr, ...]) -> relax.Function:
    *blocks, last = function.body.blocks
    value = relax.Tuple(values) if len(values) > 1 else values[0]
    types = [value.ty for value in values]
    result = relax.Var("gv", relax.TupleType(types) if len(values) > 1 else types[0])
    last = relax.DataflowBlock([*last.bindings[:-1], relax.VarBinding(result, value)])
    body = relax.SeqExpr([*blocks, last], result)
    return relax.Function(function.params, body, result.ty, function.is_pure, function.attrs)
