"""Give every layer the name its user knows it by.

The importers call all values `lv17`. In this order a value is called

1. after the weight that it reads (`conv1.weight` and `conv1_w_0` belong to `conv1`); what adds a constant to
   such a layer is its bias (`conv1.bias`);
2. after the user's layer whose result it is (`pool1/3x3_s2`);
3. after the layer it is a step of and what it does (`softmax.reshape`, `split.0` for the first of several
   results);
4. after its operator and a number (`max_pool2d_1`), if no layer of the user stands for it.

Canonical form leaves less of a layer than the importers make: whatever is then the last of its steps takes
the layer's name.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Container, Mapping

import tvm
from tvm import relax

from relay_passes.graph import Graph, array_of

LAYERS_WITH_WEIGHTS = ("nn.conv1d", "nn.conv2d", "nn.conv2d_transpose", "matmul", "nn.prelu", "multiply")
RESHAPING = ("reshape", "expand_dims", "squeeze", "flatten", "broadcast_to", "permute_dims", "astype")
WEIGHT_SUFFIX = re.compile(r"[._/:](weights?|w|W|kernel|gamma|scale|slope|s)([_:]\d+)?$")
IMPORTERS_NAME = re.compile(r"(lv|gv|lv_\d+)\d*(\..*)?")

Names = dict[relax.Var, str]


def name_layers(module: tvm.IRModule, layers: Mapping[relax.Var, str]) -> tuple[tvm.IRModule, dict[str, str]]:
    """Name what can be named while the weights are still parameters.

    Parameters
    ----------
    module : tvm.IRModule
        As an importer made it; the parameters of `main` after the inputs are named after the weights.
    layers : mapping of relax.Var to str
        The user's layer that a value of `main` belongs to; no two layers have one name. A value without a
        layer is a step towards the one that reads it.

    Returns
    -------
    tvm.IRModule, dict of str to str
        The module, and the layer that each new name in it belongs to.
    """
    graph = Graph(module)
    owners = _owners(graph, layers)
    biases = _biases(graph)
    names: Names = {}
    layer_of: dict[str, str] = {}

    def take(var: relax.Var, name: str, layer: str | None = None) -> None:
        names[var] = numbered(name, layer_of)
        layer_of[names[var]] = layer or names[var]

    for var, name in _after_weights(graph, owners).items():
        take(var, name)
    represented = {owners[var]: name for var, name in reversed(names.items()) if var in owners}
    for layer, var in _results(graph, owners, biases).items():
        if layer not in represented:
            take(var, layer)
            represented[layer] = names[var]
    for var, biased in biases.items():
        if biased in names:
            take(var, f"{names[biased]}.bias")
    for var in graph.layers:
        if var not in names and var in owners:
            layer = represented.setdefault(owners[var], owners[var])
            take(var, f"{layer}.{_step(graph, var)}", layer)
    return _renamed(graph, names), layer_of


@tvm.transform.module_pass(opt_level=0, name="NameTheRest")
class NameTheRest:
    """Name what canonical form made, and what it left of the user's layers.

    Parameters
    ----------
    layer_of : mapping of str to str
        The layer that each name given by `name_layers` belongs to.
    """

    def __init__(self, layer_of: Mapping[str, str]):
        self.layer_of = layer_of

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Name steps after what they became; number the layers that have no name, operator by operator."""
        graph = Graph(module)
        biases = _biases(graph)
        names = self._of_steps(graph, biases)
        count: Counter[str] = Counter()
        for var in graph.layers:
            if var.name in self.layer_of or not IMPORTERS_NAME.fullmatch(var.name):
                continue
            if var in biases:
                names[var] = f"{names.get(biases[var], biases[var].name)}.bias"
            else:
                kind = graph.kind(graph.value[var])
                count[kind] += 1
                names[var] = f"{kind}_{count[kind]}"
        return _renamed(graph, names)

    def _of_steps(self, graph: Graph, biases: Mapping[relax.Var, relax.Var]) -> Names:
        layers = {var: self.layer_of.get(var.name, var.name) for var in graph.layers}
        steps = [var for var, layer in layers.items() if layer != var.name]
        taken = {var.name for var in graph.layers if var not in steps}
        last = {layers[var]: var for var in steps if layers[var] not in taken}
        names = {var: layer for layer, var in last.items()}
        taken.update(last)
        for var in steps:
            if var not in names:
                is_own_bias = var in biases and layers[biases[var]] == layers[var]
                step = "bias" if is_own_bias else _step(graph, var)
                names[var] = numbered(f"{layers[var]}.{step}", taken)
                taken.add(names[var])
        return names


def layer_name(weight: str) -> str:
    """The layer's part of a weight's name, or the whole if it has no known ending.

    Examples
    --------
    >>> layer_name("conv1/7x7_s2_w_0")
    'conv1/7x7_s2'
    """
    return WEIGHT_SUFFIX.sub("", weight) or weight


def numbered(name: str, taken: Container[str]) -> str:
    """The name, or if that is taken, the name with the first free number behind it.

    Examples
    --------
    >>> numbered("relu", {"relu"})
    'relu_2'
    """
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _owners(graph: Graph, layers: Mapping[relax.Var, str]) -> Names:
    """The user's layer of each value, also of those that are steps towards another."""
    owners: Names = {}
    for var in reversed(graph.value):
        readers = (owners[reader] for reader in graph.users[var] if reader in owners)
        owner = layers.get(var) or next(readers, None)
        if owner is not None:
            owners[var] = owner
    return owners


def _results(graph: Graph, owners: Names, biases: Mapping[relax.Var, relax.Var]) -> dict[str, relax.Var]:
    """What stands for each layer: its last value, or what that is the bias or one of several results of."""
    sources = _sources_of_several(graph, owners)
    results = {owners[var]: biases.get(var, sources.get(var, var)) for var in graph.layers if var in owners}
    return {layer: var for layer, var in results.items() if owners[var] == layer}


def _sources_of_several(graph: Graph, owners: Names) -> dict[relax.Var, relax.Var]:
    """By item, the calls of which several results belong to one layer and are used."""
    items: dict[relax.Expr, list[relax.Var]] = defaultdict(list)
    for var in graph.layers:
        value = graph.value[var]
        if isinstance(value, relax.TupleGetItem) and (graph.users[var] or graph.is_output(var)):
            items[value.tuple_value].append(var)
    return {
        var: source
        for source, vars in items.items()
        if owners.keys() >= {source, *vars} and len({owners[var] for var in vars}) < len(vars)
        for var in vars
    }


def _step(graph: Graph, var: relax.Var) -> str:
    value = graph.value[var]
    return str(value.index) if isinstance(value, relax.TupleGetItem) else graph.kind(value)


def _after_weights(graph: Graph, owners: Names) -> Names:
    """Names of the layers that read a weight; a weight whose name says no layer names only what has none."""
    parameters = set(_parameters(graph))
    names: Names = {}
    for var in graph.layers:
        read = (_original(graph, arg) for arg in _may_be_weights(graph, var))
        weights = [weight for weight in read if weight in parameters]
        name = layer_name(weights[0].name) if weights else None
        if name is not None and not (name == weights[0].name and var in owners):
            names[var] = name
    products = {_slope_product(graph, var) for var in names}
    return {var: name for var, name in names.items() if var not in products}


def _may_be_weights(graph: Graph, var: relax.Var) -> list[relax.Expr]:
    value, product = graph.value[var], _slope_product(graph, var)
    if isinstance(value, relax.TupleGetItem) and value.index == 0:
        call = graph.call(value.tuple_value, "nn.batch_norm")
    else:
        call = graph.call(var if product is None else product, *LAYERS_WITH_WEIGHTS)
    return [] if call is None else call.args[1::-1]


def _slope_product(graph: Graph, var: relax.Var) -> relax.Var | None:
    """The product in `where(x > 0, x, slope * x)`, as which torch spells a parametric ReLU."""
    choice = graph.call(var, "where")
    is_slope = choice is not None and graph.call(choice.args[2], "multiply") is not None
    return choice.args[2] if is_slope else None


def _parameters(graph: Graph) -> tuple[relax.Var, ...]:
    """The weights that are not bound yet."""
    attributes = graph.module["main"].attrs or {}
    return graph.inputs[int(attributes.get("num_input", len(graph.inputs))) :]


def _original(graph: Graph, expr: relax.Expr) -> relax.Expr:
    """What `expr` is, or is a reshaped or transposed copy of."""
    while (call := graph.call(expr, *RESHAPING)) is not None:
        expr = call.args[0]
    return expr


def _biases(graph: Graph) -> dict[relax.Var, relax.Var]:
    """The layer with weights behind which a constant is added, by the addition."""
    parameters = set(_parameters(graph))

    def is_fixed(expr: relax.Expr) -> bool:
        original = _original(graph, expr)
        return (original in parameters or array_of(original) is not None) and original.ty.ndim > 0

    return {
        var: x
        for var in graph.layers
        if (add := graph.call(var, "add")) is not None
        for x, by in (add.args, add.args[::-1])
        if is_fixed(by)
        and (layer := graph.call(x, *LAYERS_WITH_WEIGHTS)) is not None
        and any(map(is_fixed, layer.args))
    }


def _renamed(graph: Graph, names: Names) -> tvm.IRModule:
    return graph.rewrite(
        {
            var: lambda emit, var=var, name=name: emit.layer(name, emit(graph.value[var]))
            for var, name in names.items()
        }
    )
