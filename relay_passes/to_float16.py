"""Let layers hold and compute float16; what enters and leaves the network keeps its type.

Convolutions read, sum up and write float16. A matrix product reads float16 and sums up in float32: it waits
for its weights, not for its arithmetic. Layers that move, compare, add or scale numbers are float16 if all
that they read is, or if a float16 layer with weights is behind them. The others take exponents or roots, or
sum up what may be many numbers, and stay float32: softmax, LRN, norms, means, wide average pools, sigmoids.

A number beyond 65504 becomes infinite in float16, and one below 6e-5 loses digits. A layer that meets such
numbers is named in `keep` and stays float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from math import prod

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst as Constant

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Emitter, Graph, array_of, operator_of

HALF, SINGLE = "float16", "float32"
WIDEST_AVERAGE = 64
"""Elements of the largest window that is averaged in float16."""

CONVOLUTIONS = tuple(f"nn.conv{rank}d" for rank in (1, 2, 3))
TRANSPOSED = tuple(f"{name}_transpose" for name in CONVOLUTIONS)
WEIGHTED = (*CONVOLUTIONS, *TRANSPOSED, "matmul")
AVERAGE_POOLS = tuple(f"nn.avg_pool{rank}d" for rank in (1, 2, 3))
FOLLOWING = (
    *("abs", "add", "broadcast_to", "clip", "concat", "expand_dims", "flatten", "flip", "max", "maximum"),
    *("min", "minimum", "multiply", "negative", "permute_dims", "repeat", "reshape", "split", "squeeze"),
    *("stack", "strided_slice", "subtract", "take", "tile"),
    *("nn.leakyrelu", "nn.pad", "nn.prelu", "nn.relu", "nn.relu6"),
    *(f"nn.max_pool{rank}d" for rank in (1, 2, 3)),
    *AVERAGE_POOLS,
)
"""Layers that are float16 where their neighbours are."""

_FIELDS = ("strides", "padding", "dilation", "groups", "data_layout", "kernel_layout", "out_layout")


@tvm.transform.module_pass(opt_level=0, name="ToFloat16")
class ToFloat16:
    """Convert the float32 layers of a canonical module, but for those whose names are in `keep`."""

    def __init__(self, keep: Collection[str] = ()):
        self._keep = frozenset(keep)

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """The module with the same layers, and casts between those of different types."""
        graph = Graph(module)
        conversion = _Conversion(graph, _leading_to_weights(graph, self._keep), self._keep)
        return graph.rewrite({var: partial(conversion.converted, var=var) for var in graph.layers})


class _Conversion:
    """Emits each layer in its new type, with casts in front of what it reads."""

    def __init__(self, graph: Graph, leading: frozenset[relax.Var], keep: frozenset[str]):
        self._graph = graph
        self._leading = leading
        self._keep = keep
        self._casts: dict[tuple[relax.Expr, str], relax.Expr] = {}

    def converted(self, emit: Emitter, var: relax.Var) -> relax.Expr:
        """The new value of a layer; one that leaves the network has its old type again."""
        value = self._computed(emit, var)
        if not self._graph.is_output(var):
            return value
        made = emit.layer(var.name, value)
        return made if _dtype(made) == _dtype(var) else relax.op.astype(made, _dtype(var))

    def _computed(self, emit: Emitter, var: relax.Var) -> relax.Expr:
        value = self._graph.value[var]
        if not isinstance(value, relax.Call):
            return emit(value)
        read = [emit(argument) for argument in value.args]
        dtype = HALF if self._is_half(var, read) else SINGLE
        arguments = [self._cast(emit, var.name, argument, dtype) for argument in read]
        operator = operator_of(value)
        if operator == "matmul":
            return relax.op.matmul(*arguments, out_dtype=_dtype(value))
        if operator in WEIGHTED:
            return _convolution(operator, value, arguments)
        return relax.Call(emit(value.op), arguments, value.attrs, value.ty_args)

    def _is_half(self, var: relax.Var, read: Sequence[relax.Expr]) -> bool:
        """Whether a layer, which now reads `read`, computes in float16."""
        value = self._graph.value[var]
        if var.name in self._keep:
            return False
        if operator_of(value) in WEIGHTED or var in self._leading:
            return True
        computed = {_dtype(each) for each in _flat(read) if not isinstance(each, Constant)}
        return _follows(value) and HALF in computed and SINGLE not in computed

    def _cast(self, emit: Emitter, name: str, value: relax.Expr, dtype: str) -> relax.Expr:
        """A value in another type, cast once for all its readers; a constant is converted here and now."""
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self._cast(emit, name, field, dtype) for field in value.fields])
        if _dtype(value) not in (HALF, SINGLE) or _dtype(value) == dtype:
            return value
        if (value, dtype) not in self._casts:
            array = array_of(value)
            self._casts[value, dtype] = (
                emit.layer(f"{name}.{dtype}", relax.op.astype(value, dtype))
                if array is None
                else _constant(array, dtype)
            )
        return self._casts[value, dtype]


def _constant(array: np.ndarray, dtype: str) -> relax.Expr:
    with np.errstate(over="ignore"):
        return constant(array.astype(dtype))


def _leading_to_weights(graph: Graph, keep: frozenset[str]) -> frozenset[relax.Var]:
    """The layers that follow their neighbours and behind which, perhaps with others between, weights are."""
    found: set[relax.Var] = set()
    for var in reversed(graph.value):
        value = graph.value[var]
        readers = (reader for reader in graph.users[var] if reader.name not in keep)
        if (_follows(value) or isinstance(value, relax.TupleGetItem)) and any(
            operator_of(graph.value[reader]) in WEIGHTED or reader in found for reader in readers
        ):
            found.add(var)
    return frozenset(found)


def _follows(value: relax.Expr) -> bool:
    """Whether a layer is of the type of its neighbours."""
    operator = operator_of(value)
    if operator in AVERAGE_POOLS:
        return prod(int(size) for size in value.attrs.pool_size) <= WIDEST_AVERAGE
    return operator in FOLLOWING


def _convolution(operator: str, call: relax.Call, arguments: Sequence[relax.Expr]) -> relax.Call:
    """The same convolution of arguments of another type; its sums have that type."""
    build = getattr(relax.op.nn, operator.removeprefix("nn."))
    fields = (*_FIELDS, "output_padding") if operator in TRANSPOSED else _FIELDS
    return build(*arguments, **{field: getattr(call.attrs, field) for field in fields})


def _flat(values: Iterable[relax.Expr]) -> Iterator[relax.Expr]:
    for value in values:
        if isinstance(value, relax.Tuple):
            yield from _flat(value.fields)
        else:
            yield value


def _dtype(value: relax.Expr) -> str | None:
    """The type of a tensor's elements; None for what is no tensor."""
    return str(value.ty.dtype) if isinstance(value.ty, relax.TensorType) else None
