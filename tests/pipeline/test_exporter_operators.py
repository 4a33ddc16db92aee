"""Every operator as ONNX in onnxruntime against the twin, which is held against TVM by its own tests."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from pipeline.exporter import UnsupportedOperators, to_onnx
from pipeline.exporter.operators import COMPOSITES, OPERATORS
from pipeline.twin import evaluate, operators


def neighbour(name: str) -> ModuleType:
    """Another test file as a module."""
    spec = importlib.util.spec_from_file_location(f"exporter_{name}", Path(__file__).with_name(f"{name}.py"))
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[spec.name]


twin = neighbour("test_twin_operators")
IMAGE, case = twin.IMAGE, twin.case
twin.CASES |= {
    "nn.conv2d with bias": case(
        lambda x, w: op.add(op.nn.conv2d(x, w, groups=2), weight((1, 6, 1, 1))), IMAGE, twin.KERNEL
    ),
    "nn.avg_pool1d dilated in padding": case(
        lambda x: op.nn.avg_pool1d(x, 3, 2, 2, 2, ceil_mode=True), (1, 4, 14)
    ),
    "nn.avg_pool2d dilated, ceil, counted": twin.pool(
        op.nn.avg_pool2d,
        pool_size=3,
        strides=2,
        padding=1,
        dilation=2,
        ceil_mode=True,
        count_include_pad=True,
    ),
    **{
        f"nn.avg_pool2d of everything {padding} {counted}": twin.pool(
            op.nn.avg_pool2d, pool_size=(12, 13), strides=4, padding=padding, count_include_pad=counted
        )
        for padding in ((0, 0, 3, 2), (2, 1, 1, 1))
        for counted in (False, True)
    },
    "nn.max_pool2d wide padding": twin.pool(op.nn.max_pool2d, pool_size=2, padding=2, dilation=3),
    "nn.adaptive_avg_pool1d equal": case(lambda x: op.nn.adaptive_avg_pool1d(x, 3), (1, 4, 9)),
    "nn.adaptive_avg_pool2d all": case(lambda x: op.nn.adaptive_avg_pool2d(x, (9, 11))),
    "nn.adaptive_avg_pool2d equal": case(lambda x: op.nn.adaptive_avg_pool2d(x, (3, 11))),
    "clip one side": case(lambda x: op.clip(x, 0.3, float("inf"))),
    "nn.softplus plain": case(lambda x: op.nn.softplus(x, 1.0, 20.0)),
    "nn.prelu last axis": case(lambda x, s: op.nn.prelu(x, s, -1), IMAGE, (11,)),
    "nn.pad edge": case(lambda x: op.nn.pad(x, (0, 0, 0, 0, 2, 3, 0, 1), pad_mode="replicate")),
    "floor_divide integers": case(op.floor_divide, (5, 7), (5, 7), dtypes=("int32", "int32"), positive=True),
    "floor_mod integers": case(op.floor_mod, (5, 7), (5, 7), dtypes=("int32", "int32"), positive=True),
    "mean of rows": case(lambda x: op.mean(x, 1)),
    "argmax of all": case(lambda x: op.argmax(x)),
    "concat of rows": case(lambda x, y: op.concat([x, y], 0), (3, 5), (2, 5)),
    "repeat all": case(lambda x: op.repeat(x, 2), (3, 4)),
    "tile higher": case(lambda x: op.tile(x, (2, 1, 3)), (3, 4)),
    "strided_slice of nothing": case(lambda x: op.strided_slice(x, [1], [3], [3], [1])),
    "strided_slice backwards": case(lambda x: op.strided_slice(x, [2, 3], [8, -1], [-10, 4], [-3, -1])),
    "matmul with bias": case(lambda x: op.add(op.matmul(x, weight((5, 7))), weight((7,))), (3, 5)),
    "matmul of vectors": case(op.matmul, (5,), (5,)),
    "nn.batch_norm unscaled": case(
        lambda *args: op.nn.batch_norm(*args, axis=1, center=False, scale=False, training=False)[0],
        *(IMAGE, (4,), (4,), (4,), (4,)),
        positive=True,
    ),
    "nn.layer_norm unscaled": case(
        lambda x, g, b: op.nn.layer_norm(x, g, b, [-1], center=False, scale=False), IMAGE, (11,), (11,)
    ),
    "nn.dropout": case(lambda x: op.nn.dropout(x, 0.5)[0]),
}


def weight(shape: tuple[int, ...]) -> relax.Expr:
    return relax.const(np.random.default_rng(1).normal(size=shape).astype("float32"))


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    data = model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(
        None, {each.name: array for each, array in zip(model.graph.input, inputs, strict=True)}
    )


def module(build, *shapes: tuple[int, ...]) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    arguments = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", arguments):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(build(*arguments)))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize("name", twin.CASES)
def test_as_the_twin(name: str):
    built = tvm.IRModule({"main": twin.function_of(name)})
    inputs = twin.arrays(name)
    (wanted,) = evaluate(built, inputs)
    (found,) = run(to_onnx(built), *inputs)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_every_operator_of_the_twin_has_an_entry_and_a_case():
    assert OPERATORS.keys() == operators.OPERATORS.keys()
    assert COMPOSITES.keys() == operators.COMPOSITES.keys()
    assert OPERATORS.keys() <= {name.partition(" ")[0] for name in twin.CASES}


PLAIN = {
    "conv with bias": (twin.CASES["nn.conv2d with bias"].build, (IMAGE, twin.KERNEL), ["Conv"]),
    "dense": (twin.CASES["matmul with bias"].build, ((3, 5),), ["Gemm"]),
    "two readers": (
        lambda x: op.add(op.add(y := op.matmul(x, weight((5, 7))), weight((7,))), y),
        ((3, 5),),
        ["MatMul", "Add", "Add"],
    ),
    "global mean": (lambda x: op.mean(x, [2, 3], True), (IMAGE,), ["GlobalAveragePool"]),
    "mean of everything": (
        lambda x: op.nn.avg_pool2d(x, (10, 12), padding=(0, 0, 1, 1)),
        (IMAGE,),
        ["GlobalAveragePool"],
    ),
    "flatten": (lambda x: op.reshape(x, (2, 396)), (IMAGE,), ["Flatten"]),
    "reshape to the same": (lambda x: op.nn.relu(op.reshape(x, IMAGE)), (IMAGE,), ["Relu"]),
    "ceil": (lambda x: op.nn.max_pool2d(x, 3, 2, ceil_mode=True), (IMAGE,), ["MaxPool"]),
    "silu": (op.nn.silu, (IMAGE,), ["Sigmoid", "Mul"]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_superfluous_is_written(name: str):
    build, shapes, wanted = PLAIN[name]
    graph = to_onnx(module(build, *shapes)).graph
    assert Counter(each.op_type for each in graph.node) == Counter(wanted)


REFUSED = {
    "nn.batch_norm (batch norm over": lambda x: op.nn.batch_norm(
        x, *(weight((11,)) for _ in range(4)), axis=3, training=False
    )[0],
    "nn.layer_norm (layer norm over": lambda x: op.nn.layer_norm(x, weight((4,)), weight((4,)), [1]),
    "nn.pad (padding mode circular)": lambda x: op.nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1), pad_mode="circular"),
    "nn.max_pool2d (layout NHWC": lambda x: op.nn.max_pool2d(x, 2, layout="NHWC"),
    "image.resize2d (resize method cubic": lambda x: op.image.resize2d(
        x, (18, 22), layout="NCHW", method="cubic"
    ),
    "image.resize2d (resize to the nearest": lambda x: op.image.resize2d(
        x, (17, 22), layout="NCHW", method="nearest_neighbor", coordinate_transformation_mode="align_corners"
    ),
    "nn.avg_pool2d (a window wholly": lambda x: op.nn.avg_pool2d(x, 2, 2, 2),
    "cumsum": lambda x: op.cumsum(x, 1),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str):
    with pytest.raises(UnsupportedOperators) as refusal:
        to_onnx(module(REFUSED[reason], IMAGE))
    assert reason in str(refusal.value)


def test_all_refused_operators_are_named_at_once():
    def bound(x):
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            with builder.dataflow():
                first = builder.emit(op.cumsum(x, 1), "first")
                second = builder.emit(op.nn.relu(first), "second")
                third = builder.emit(op.cumsum(second, 2), "third")
                padded = builder.emit(op.nn.pad(third, (0, 0, 0, 0, 1, 1, 1, 1), pad_mode="circular"), "wrap")
                result = builder.emit_output(padded)
            builder.emit_func_output(result)
        return builder.get()

    with pytest.raises(UnsupportedOperators) as refusal:
        to_onnx(bound(relax.Var("x", relax.TensorType(IMAGE, "float32"))))
    assert "\n" not in str(refusal.value)
    assert "cumsum in first, third; nn.pad (padding mode circular) in wrap" in str(refusal.value)
