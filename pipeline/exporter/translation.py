"""From a canonical module to ONNX expressions, one for each layer, operator by operator.

A constant that is added right behind a convolution or a matmul that nothing else reads is that layer's bias:
both are one node of ONNX, under the name of the layer with the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import GenericConst

from pipeline.errors import UserError
from pipeline.exporter.expression import Input, Layer, Tensor, Value, Weight
from pipeline.exporter.operators import COMPOSITES, OPERATORS, Operator
from relay_passes.graph import Graph, array_of, operator_of, shape_of

CONVOLUTIONS = tuple(f"nn.conv{rank}d{kind}" for rank in (1, 2, 3) for kind in ("", "_transpose"))
ROLES = {
    **{name: {1: "weight"} for name in CONVOLUTIONS},
    "add": {0: "bias", 1: "bias"},
    "matmul": {0: "weight", 1: "weight"},
    "multiply": {0: "scale", 1: "scale"},
    "nn.batch_norm": {1: "gamma", 2: "beta", 3: "mean", 4: "var"},
    "nn.prelu": {1: "slope"},
}
MISSING = Input("")
"""Stands for the value of a layer that cannot be translated, so that the layers behind it still are."""


class UnsupportedOperators(UserError):
    """The module holds operators that cannot be written as ONNX; all of them are named."""


@dataclass(frozen=True)
class Translation:
    """A network as ONNX expressions.

    Parameters
    ----------
    inputs, outputs : tuple of Tensor
        In the order of `main`'s parameters and results.
    layers : tuple of (str, tuple of Tensor)
        The name and the results of each layer, in order.
    """

    inputs: tuple[Tensor, ...]
    layers: tuple[tuple[str, tuple[Tensor, ...]], ...]
    outputs: tuple[Tensor, ...]


def translate(module: tvm.IRModule) -> Translation:
    """Translate every layer of a module.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical, with static shapes.

    Raises
    ------
    UnsupportedOperators
        Naming every operator that cannot be translated, with its layers.
    """
    return _Translator(Graph(module)).translate()


class _Translator:
    def __init__(self, graph: Graph):
        self._graph = graph
        self._biased = dict(_biased_layers(graph))
        self._values: dict[relax.Var, Any] = {}
        self._weights: dict[GenericConst, Tensor] = {}
        self._unsupported: dict[str, list[str]] = {}

    def translate(self) -> Translation:
        graph = self._graph
        for var in graph.inputs:
            self._values[var] = Tensor(Input(var.name), shape_of(var), str(var.ty.dtype))
        with_bias = set(self._biased.values())
        layers = []
        for var in graph.layers:
            if isinstance(graph.value[var], relax.TupleGetItem):
                self._values[var] = self._read(graph.value[var], var.name)
            elif var not in with_bias:
                layer = self._biased.get(var, var)
                results = self._results(layer, var)
                self._values[var] = results if isinstance(var.ty, relax.TupleType) else results[0]
                layers.append((layer.name, results))
        if self._unsupported:
            found = "; ".join(f"{what} in {', '.join(names)}" for what, names in self._unsupported.items())
            raise UnsupportedOperators(f"operators that cannot be written as ONNX: {found}")
        inputs = tuple(self._values[var] for var in graph.inputs)
        outputs = tuple(self._read(output, "output") for output in graph.outputs)
        return Translation(inputs, tuple(layers), outputs)

    def _results(self, layer: relax.Var, var: relax.Var) -> tuple[Tensor, ...]:
        """What a layer computes; if `var` is another, that one adds the layer's bias."""
        call = self._graph.value[layer]
        entry, attrs, what = self._entry(call)
        roles = ROLES.get(what, {})
        args = [self._read(arg, layer.name, roles.get(i, "constant")) for i, arg in enumerate(call.args)]
        if layer is not var:
            bias = array_of(self._graph.value[var].args[1]).reshape(-1)
            args.append(Tensor(Weight(bias, "bias"), bias.shape, str(bias.dtype)))
        results = _types(call.ty)
        try:
            made = entry(Layer(attrs, tuple(args), results))
        except NotImplementedError as error:
            self._refuse(f"{what} ({error})" if str(error) else what, layer.name)
            made = (MISSING,) * len(results)
        values = made if isinstance(made, tuple) else (made,)
        return tuple(_typed(value, *result) for value, result in zip(values, results, strict=True))

    def _entry(self, call: relax.Call) -> tuple[Operator, Any, str]:
        """The entry of the table for a call, the attributes that it reads, and the operator's name."""
        operator = operator_of(call)
        if operator is not None:
            return OPERATORS.get(operator, _unsupported), call.attrs, operator
        callee = self._graph.module[call.op] if isinstance(call.op, tvm.ir.GlobalVar) else None
        composite = (getattr(callee, "attrs", None) or {}).get("Composite")
        if composite in COMPOSITES:
            return COMPOSITES[composite], callee.attrs, str(composite)
        return _unsupported, None, str(composite or getattr(call.op, "name_hint", call.op))

    def _read(self, expr: relax.Expr, layer: str, role: str = "constant") -> Any:
        match expr:
            case GenericConst():
                if expr not in self._weights:
                    array = array_of(expr)
                    self._weights[expr] = Tensor(Weight(array, role), array.shape, str(array.dtype))
                return self._weights[expr]
            case relax.Var():
                if expr in self._values:
                    return self._values[expr]
                return self._read(self._graph.value[expr], layer)
            case relax.Tuple():
                return tuple(self._read(field, layer) for field in expr.fields)
            case relax.TupleGetItem():
                return self._read(expr.tuple_value, layer)[int(expr.index)]
            case relax.ShapeExpr():
                return tuple(int(size) for size in expr.values)
            case tvm.tirx.IntImm() | tvm.tirx.FloatImm():
                return expr.value
        self._refuse(type(expr).__name__, layer)
        return _typed(MISSING, (), "float32")

    def _refuse(self, what: str, layer: str) -> None:
        names = self._unsupported.setdefault(what, [])
        if layer not in names:
            names.append(layer)


def _unsupported(layer: Layer) -> Value:
    raise NotImplementedError


def _biased_layers(graph: Graph) -> Iterator[tuple[relax.Var, relax.Var]]:
    """Each layer that adds a bias, with the convolution or the matmul whose bias it is."""
    for var in graph.layers:
        add = graph.call(var, "add")
        bias = None if add is None else array_of(add.args[1])
        source = None if bias is None else add.args[0]
        call = graph.call(source, *CONVOLUTIONS, "matmul")
        if call is None or not graph.has_one_user(source) or bias.dtype != str(call.ty.dtype):
            continue
        if operator_of(call) != "matmul":
            is_bias = bias.shape == (1, shape_of(call)[1], *(1,) * (call.ty.ndim - 2))
        else:
            is_dense = call.ty.ndim == 2 and array_of(call.args[1]) is not None
            is_bias = is_dense and bias.shape in (shape_of(call)[1:], (1, *shape_of(call)[1:]))
        if is_bias:
            yield var, source


def _types(type_: tvm.ir.Type) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shape and type of each result of a call."""
    fields: Sequence[Any] = type_.fields if isinstance(type_, relax.TupleType) else (type_,)
    return tuple((tuple(int(size) for size in field.shape), str(field.dtype)) for field in fields)


def _typed(value: Value, shape: tuple[int, ...], dtype: str) -> Tensor:
    return Tensor(value.source if isinstance(value, Tensor) else value, shape, dtype)
