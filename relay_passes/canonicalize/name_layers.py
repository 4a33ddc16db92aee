"""Give every layer the name its user knows it by.

The importers call all values `lv17`. A layer with weights is called after its weight (`conv1.weight` and
`conv1_w_0` belong to `conv1`); the others are numbered by operator (`max_pool2d_1`).
"""

from __future__ import annotations

import re
from collections import Counter

import tvm
from tvm import relax

from relay_passes.graph import Graph, Rewrite, array_of

LAYERS_WITH_WEIGHTS = ("nn.conv1d", "nn.conv2d", "nn.conv2d_transpose", "matmul", "nn.prelu", "multiply")
RESHAPING = ("reshape", "expand_dims", "squeeze", "flatten", "broadcast_to", "permute_dims", "astype")
WEIGHT_SUFFIX = re.compile(r"[._/:](weights?|w|W|kernel|gamma|scale|slope|s)([_:]\d+)?$")
IMPORTERS_NAME = re.compile(r"(lv|gv|lv_\d+)\d*")


def name_after_weights(module: tvm.IRModule) -> tvm.IRModule:
    """Rename layers after the weight parameter that they read."""
    graph = Graph(module)
    parameters = set(graph.inputs[_number_of_inputs(module) :])
    names = {}
    for var, value in graph.value.items():
        if isinstance(value, relax.TupleGetItem) and value.index == 0:
            call = graph.call(value.tuple_value, "nn.batch_norm")
        else:
            call = graph.call(var, *LAYERS_WITH_WEIGHTS)
        read = call.args[1::-1] if call is not None else ()
        weights = [weight for arg in read if (weight := _parameter(graph, arg, parameters)) is not None]
        if weights:
            names[var] = layer_name(weights[0].name)
    return graph.rewrite({var: _renamed(graph, var, name) for var, name in names.items()})


@tvm.transform.module_pass(opt_level=0, name="NameTheRest")
def name_the_rest(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Number the layers that still carry an importer's name, operator by operator."""
    graph = Graph(module)
    count: Counter[str] = Counter()
    names: dict[relax.Var, str] = {}
    for var in graph.layers:
        if not IMPORTERS_NAME.fullmatch(var.name):
            continue
        biased = _biased_layer(graph, var)
        if biased is not None:
            names[var] = f"{names.get(biased, biased.name)}.bias"
        else:
            kind = graph.kind(graph.value[var])
            count[kind] += 1
            names[var] = f"{kind}_{count[kind]}"
    return graph.rewrite({var: _renamed(graph, var, name) for var, name in names.items()})


def layer_name(weight: str) -> str:
    """The layer's part of a weight's name, or the whole if it has no known ending.

    Examples
    --------
    >>> layer_name("conv1/7x7_s2_w_0")
    'conv1/7x7_s2'
    """
    return WEIGHT_SUFFIX.sub("", weight) or weight


def _number_of_inputs(module: tvm.IRModule) -> int:
    return int(module["main"].attrs["num_input"])


def _parameter(graph: Graph, expr: relax.Expr, parameters: set[relax.Var]) -> relax.Var | None:
    """The weight that `expr` is, or is a reshaped or transposed copy of."""
    while (call := graph.call(expr, *RESHAPING)) is not None:
        expr = call.args[0]
    return expr if expr in parameters else None


def _biased_layer(graph: Graph, var: relax.Var) -> relax.Var | None:
    """The layer with weights whose bias `var` adds."""
    add = graph.call(var, "add")
    if add is None or array_of(add.args[1]) is None:
        return None
    layer = graph.call(add.args[0], *LAYERS_WITH_WEIGHTS)
    return None if layer is None or array_of(layer.args[1]) is None else add.args[0]


def _renamed(graph: Graph, var: relax.Var, name: str) -> Rewrite:
    return lambda emit: emit.layer(name, emit(graph.value[var]))
