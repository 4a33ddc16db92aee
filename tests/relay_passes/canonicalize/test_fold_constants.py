import numpy as np
import pytest
from onnx.helper import make_node
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant, fold_constants
from relay_passes.graph import Graph, array_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 3, 4, 4)).astype("float32")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "int32", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_a_constant_keeps_shape_type_and_value(dtype, shape):
    value = RNG.integers(0, 2, size=shape).astype(dtype)
    array = array_of(constant(value))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert (array == value).all()


def test_a_view_becomes_a_constant():
    value = np.broadcast_to(np.arange(3.0).reshape(3, 1), (3, 4)).T
    assert (array_of(constant(value)) == value).all()


def _folded(built, compute):
    graph = Graph(fold_constants(built((2, 3), lambda builder, x: relax.op.add(x, compute(builder)))))
    (layer,) = graph.layers
    return array_of(graph.value[layer].args[1])


VALUE = RNG.uniform(0.5, 2, size=(3, 2)).astype("float32")
CONSTANT = constant(VALUE)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda b: relax.op.permute_dims(CONSTANT), VALUE.T),
        (lambda b: relax.op.permute_dims(CONSTANT, [1, 0]), VALUE.T),
        (lambda b: relax.op.reshape(CONSTANT, (2, 3)), VALUE.reshape(2, 3)),
        (lambda b: relax.op.broadcast_to(constant(VALUE[:, 0]), (2, 3)), np.stack([VALUE[:, 0]] * 2)),
        (lambda b: relax.op.squeeze(b.emit(relax.op.expand_dims(constant(VALUE.T), [0])), [0]), VALUE.T),
        (lambda b: relax.op.astype(constant(VALUE.T.astype("float64")), "float32"), VALUE.T),
        (lambda b: b.emit(relax.op.rsqrt(b.emit(relax.op.sqrt(constant(VALUE.T))))), VALUE.T**-0.25),
        (lambda b: relax.op.exp(relax.op.negative(constant(VALUE.T))), np.exp(-VALUE.T)),
        (lambda b: relax.op.divide(constant(VALUE.T), relax.const(2.0)), VALUE.T / 2),
        (lambda b: relax.op.maximum(constant(VALUE.T), relax.const(1.0)), np.maximum(VALUE.T, 1)),
        (
            lambda b: relax.op.where(relax.op.isnan(constant(VALUE.T)), relax.const(0.0), constant(VALUE.T)),
            VALUE.T,
        ),
    ],
)
def test_constant_expressions_are_computed(built, compute, expected):
    np.testing.assert_allclose(_folded(built, lambda b: b.emit(compute(b))), expected, rtol=1e-6)


def test_what_depends_on_the_input_stays(built, operators):
    module = built((2, 3), lambda builder, x: relax.op.permute_dims(builder.emit(relax.op.exp(x))))
    assert operators(fold_constants(module)) == ["exp", "permute_dims"]


def test_weights_transposed_in_the_graph(from_onnx, operators):
    weights = {"w": RNG.normal(size=(3, 2, 1, 1)).astype("float32")}
    nodes = [make_node("Transpose", ["w"], ["t"], perm=[1, 0, 2, 3]), make_node("Conv", ["x", "t"], ["y"])]
    case = from_onnx(nodes, {"x": X}, weights)
    assert operators(case.module) == ["nn.conv2d"]
    assert case.difference() < 1e-5


def test_arrays_of_constants_are_read_only():
    array = array_of(constant(VALUE))
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
