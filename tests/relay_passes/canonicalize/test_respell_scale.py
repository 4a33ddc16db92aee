import numpy as np
import pytest
from onnx.helper import make_node

from relay_passes.canonicalize.respell_scale import per_channel
from relay_passes.graph import Graph, array_of, shape_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4, 5)).astype("float32")


def _constant(case):
    graph = Graph(case.module)
    (layer,) = graph.layers
    call = graph.value[layer]
    assert call.args[0].same_as(graph.inputs[0])
    return array_of(call.args[1])


@pytest.mark.parametrize("operator", ["Mul", "Add", "Sub", "Div"])
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (1, 1, 1), (1,), ()])
def test_a_constant_by_channel_has_one_shape(from_onnx, operators, operator, shape):
    c = RNG.uniform(0.5, 2, size=shape).astype("float32")
    case = from_onnx([make_node(operator, ["x", "c"], ["y"])], {"x": X}, {"c": c})
    assert operators(case.module) == [{"Mul": "multiply", "Div": "multiply"}.get(operator, "add")]
    assert _constant(case).shape == (1, 3, 1, 1)
    assert case.difference() < 1e-6


@pytest.mark.parametrize("operator", ["Mul", "Add"])
def test_the_constant_comes_second(from_onnx, operator):
    c = RNG.normal(size=(3, 1, 1)).astype("float32")
    case = from_onnx([make_node(operator, ["c", "x"], ["y"])], {"x": X}, {"c": c})
    assert _constant(case).shape == (1, 3, 1, 1)
    assert case.difference() < 1e-6


@pytest.mark.parametrize("operator", ["Sub", "Div"])
def test_a_constant_minus_or_over_the_tensor_is_left_alone(from_onnx, operators, operator):
    c = RNG.normal(size=(3, 1, 1)).astype("float32")
    case = from_onnx([make_node(operator, ["c", "x"], ["y"])], {"x": X}, {"c": c})
    assert operators(case.module) == [{"Sub": "subtract", "Div": "divide"}[operator]]
    assert case.difference() < 1e-6


def test_division_by_zero_stays_a_division(from_onnx, operators):
    c = np.array([1, 0, 2], "float32").reshape(3, 1, 1)
    case = from_onnx([make_node("Div", ["x", "c"], ["y"])], {"x": X}, {"c": c})
    assert operators(case.module) == ["divide"]


@pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 3, 4, 5), (2, 1, 1, 1), (1, 1, 4, 1)])
def test_a_constant_that_varies_within_a_channel_keeps_its_shape(from_onnx, shape):
    c = RNG.normal(size=shape).astype("float32")
    case = from_onnx([make_node("Mul", ["x", "c"], ["y"])], {"x": X}, {"c": c})
    assert _constant(case).shape == shape
    assert case.difference() < 1e-6


@pytest.mark.parametrize(
    ("x", "c"), [((2, 1, 4, 4), (1, 3, 1, 1)), ((3, 1, 1), (2, 3, 4, 4)), ((4,), (1, 3, 4, 4))]
)
def test_a_constant_that_broadcasts_the_tensor_keeps_its_shape(from_onnx, x, c):
    inputs = {"x": RNG.normal(size=x).astype("float32")}
    weights = {"c": RNG.normal(size=c).astype("float32")}
    case = from_onnx([make_node("Add", ["x", "c"], ["y"])], inputs, weights)
    assert _constant(case).shape == c
    assert case.difference() < 1e-6


def test_integers_are_left_alone(from_onnx):
    case = from_onnx(
        [make_node("Mul", ["x", "c"], ["y"])],
        {"x": np.arange(6).reshape(1, 2, 1, 3)},
        {"c": np.array([2, 3]).reshape(2, 1, 1)},
    )
    (layer,) = Graph(case.module).layers
    assert shape_of(Graph(case.module).value[layer].args[1]) == (2, 1, 1)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_keep_their_type(from_onnx, dtype):
    weights = {"c": RNG.normal(size=(3, 1, 1)).astype(dtype)}
    case = from_onnx([make_node("Mul", ["x", "c"], ["y"])], {"x": X.astype(dtype)}, weights)
    assert _constant(case).dtype == dtype
    assert case.difference() < 1e-3


def test_per_channel_fills_every_channel():
    assert per_channel(np.float32(2).reshape(()), (1, 3, 2, 2)).reshape(-1).tolist() == [2, 2, 2]
    assert per_channel(np.ones(7), (2, 7)).shape == (7,)
