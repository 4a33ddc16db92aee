import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.relax.dpl import is_op, wildcard

from relay_passes.graph import Graph, array_of, operator_of, shape_of, variables


@pytest.fixture
def row(built):
    """relu -> sigmoid -> add of both."""

    def compute(builder, x):
        a = builder.emit(relax.op.nn.relu(x), "a")
        b = builder.emit(relax.op.sigmoid(a), "b")
        return builder.emit(relax.op.add(a, b), "c")

    return built((2, 3), compute)


def _names(module):
    return [var.name for var in Graph(module).layers]


def test_layers_users_and_outputs(row):
    graph = Graph(row)
    a, b, c = graph.layers
    (x,) = graph.inputs
    assert graph.users[x] == (a,)
    assert graph.users[a] == (b, c)
    assert graph.users[b] == (c,)
    assert graph.users[c] == ()
    assert [graph.has_one_user(var) for var in (x, a, b, c)] == [True, False, True, False]
    assert [graph.is_output(var) for var in (x, a, b, c)] == [False, False, False, True]
    assert graph.outputs[0].same_as(c)
    assert not graph.returns_tuple


def test_aliases_are_seen_through(built):
    def compute(builder, x):
        a = builder.emit(relax.op.nn.relu(x))
        renamed = builder.emit(a)
        pair = builder.emit(relax.Tuple([renamed, x]))
        return builder.emit(relax.op.concat(pair, axis=0)), renamed

    graph = Graph(built((2, 3), compute))
    a, joined = graph.layers
    assert graph.users[a] == (joined,)
    assert graph.is_output(a)
    assert not graph.has_one_user(a)


def test_a_layer_that_reads_twice_stands_there_twice(built):
    def compute(builder, x):
        a = builder.emit(relax.op.nn.relu(x))
        return builder.emit(relax.op.add(a, a))

    graph = Graph(built((2, 3), compute))
    a, c = graph.layers
    assert graph.users[a] == (c, c)
    assert not graph.has_one_user(a)


def test_calls_and_matches(row):
    graph = Graph(row)
    a, b, c = graph.layers
    assert graph.call(a, "nn.relu") is not None
    assert graph.call(a, "sigmoid", "add") is None
    assert graph.call(relax.const(1.0), "add") is None
    inner = wildcard()
    found = graph.match(is_op("relax.add")(wildcard(), is_op("relax.sigmoid")(inner)), c)
    assert found[inner].same_as(a)
    assert graph.match(is_op("relax.sigmoid")(wildcard()), c) is None
    assert operator_of(graph.value[b]) == "sigmoid"
    assert variables(graph.value[c]) == [a, b]
    assert shape_of(c) == (2, 3)


def test_rewriting_leaves_the_old_module_alone(row):
    before = row.script()
    graph = Graph(row)
    a, b, _ = graph.layers
    new = graph.rewrite({b: lambda emit: relax.op.tanh(emit(a))})
    assert row.script() == before
    assert [operator_of(v) for v in Graph(new).value.values() if isinstance(v, relax.Call)] == [
        "nn.relu",
        "tanh",
        "add",
    ]
    assert _names(new) == ["a", "b", "c"]
    relax.analysis.well_formed(new)


def test_readers_read_the_variable_that_is_returned(row):
    graph = Graph(row)
    a, b, _ = graph.layers
    new = graph.rewrite({b: lambda emit: emit(a)})
    assert _names(new) == ["a", "c"]


def test_layers_that_stay_keep_their_variables(row):
    graph = Graph(row)
    a, b, _ = graph.layers
    new = graph.rewrite({b: lambda emit: relax.op.tanh(emit(a))})
    assert Graph(new).layers[0].same_as(a)


def test_unused_layers_and_functions_go(row):
    graph = Graph(row)
    a, _, c = graph.layers
    new = graph.rewrite({c: lambda emit: relax.op.exp(emit(a))})
    assert _names(new) == ["a", "c"]


def test_equal_names_are_numbered_and_old_ones_stay(row):
    graph = Graph(row)
    a, b, _ = graph.layers
    new = graph.rewrite({b: lambda emit: emit.layer("c", relax.op.tanh(emit(a)))})
    assert _names(new) == ["a", "c_2", "c"]
    again = Graph(new).rewrite({})
    assert _names(again) == ["a", "c_2", "c"]


def test_a_new_type_reaches_the_readers(row):
    graph = Graph(row)
    (x,) = graph.inputs
    a, _, _ = graph.layers
    new = graph.rewrite({a: lambda emit: relax.op.sum(emit(x), [0], keepdims=True)})
    assert shape_of(Graph(new).layers[-1]) == (1, 3)
    relax.analysis.well_formed(new)


def test_other_outputs_and_attributes(row):
    graph = Graph(row)
    a, _, _ = graph.layers
    new = graph.rewrite({}, outputs=(a,), attributes={"note": "kept"})
    assert _names(new) == ["a"]
    assert str(Graph(new).rewrite({}).attrs["note"]) == "kept"


def test_what_came_and_what_went(row):
    graph = Graph(row)
    a, b, c = graph.layers

    def two(emit):
        return emit.layer("e", relax.op.exp(emit.layer("d", relax.op.tanh(emit(a)))))

    rewritten = graph.trace_rewrite({c: two})
    assert [var.name for var in rewritten.made[c]] == ["d", "e"]
    assert rewritten.gone == {b, c}
    replaced = graph.trace_rewrite({b: lambda emit: relax.op.tanh(emit(a))})
    assert list(replaced.made[b]) == [b]
    assert replaced.gone == {b}


@pytest.mark.parametrize("axis", [1, -3])
def test_joined_channels(built, axis):
    def compute(builder, x):
        a, b = (builder.emit(op(x)) for op in (relax.op.nn.relu, relax.op.sigmoid))
        pair = builder.emit(relax.Tuple([a, b]))
        return builder.emit(relax.op.concat(pair, axis=axis))

    graph = Graph(built((1, 2, 3, 4), compute))
    a, b, joined = graph.layers
    assert graph.joined_channels(joined) == (a, b)
    assert graph.joined_channels(a) is None


@pytest.mark.parametrize(("shape", "axis"), [((1, 2, 3, 4), 0), ((1, 2, 3, 4), -1), ((4,), None)])
def test_other_concats_join_no_channels(built, shape, axis):
    graph = Graph(built(shape, lambda builder, x: relax.op.concat([x, x], axis=axis)))
    assert graph.joined_channels(graph.layers[0]) is None


def test_a_concat_of_a_computed_tuple_or_a_constant_joins_no_layers(built):
    def compute(builder, x):
        parts = builder.emit(relax.op.split(x, 2, axis=1))
        constant = relax.const(np.ones((1, 2, 3, 4), "float32"))
        first = builder.emit(relax.op.concat(parts, axis=1))
        return first, builder.emit(relax.op.concat([x, constant], axis=1))

    graph = Graph(built((1, 2, 3, 4), compute))
    assert [graph.joined_channels(var) for var in graph.layers] == [None] * 3


def test_arrays_share_the_constants_memory():
    value = relax.const(np.arange(6, dtype="float32"))
    first, second = array_of(value), array_of(value)
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    assert array_of(relax.Var("x", relax.TensorType((1,), "float32"))) is None


def test_functions_and_their_calls_stay(from_torch):
    case = from_torch(nn.Sequential(nn.LocalResponseNorm(3), nn.ReLU()), torch.randn(1, 4, 3, 3))
    graph = Graph(case.module)
    new = graph.rewrite({graph.layers[-1]: lambda emit: relax.op.sigmoid(emit(graph.layers[0]))})
    assert len(new.functions) == 2
    lrn, _ = Graph(new).layers
    assert Graph(new).composite(lrn) is not None
    relax.analysis.well_formed(new)
    without = graph.rewrite({graph.layers[0]: lambda emit: emit(graph.inputs[0])})
    assert [gv.name_hint for gv in without.functions] == ["main"]


def test_a_module_without_a_dataflow_block():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.nn.relu(x)))
    module = builder.finalize()
    tvm.ir.assert_structural_equal(module["main"].ret_ty, Graph(module).rewrite({})["main"].ret_ty)
