"""Every operator of the twin against TVM's own result, compiled for the host in one library."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from pipeline.twin import evaluate
from pipeline.twin.operators import OPERATORS

IMAGE = (2, 4, 9, 11)


@dataclass(frozen=True)
class Case:
    build: Callable[..., relax.Expr]
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    dtypes: tuple[str, ...] = field(default=())
    positive: bool = False


def case(build: Callable[..., relax.Expr], *shapes: tuple[int, ...], **options) -> Case:
    return Case(build, shapes or (IMAGE,), **options)


UNARY = {
    **{
        name: getattr(op, name) for name in ("abs", "ceil", "cos", "erf", "exp", "floor", "negative", "round")
    },
    **{name: getattr(op, name) for name in ("sigmoid", "sign", "sin", "square", "tanh", "trunc")},
    **{f"nn.{name}": getattr(op.nn, name) for name in ("gelu", "gelu_tanh", "relu", "relu6", "selu", "silu")},
}
BINARY = (
    *(
        "add",
        "divide",
        "equal",
        "floor_divide",
        "floor_mod",
        "greater",
        "greater_equal",
        "less",
        "less_equal",
    ),
    *("maximum", "minimum", "mod", "multiply", "not_equal", "subtract"),
)
KERNEL = (6, 2, 3, 3)


def pool(function, **options) -> Case:
    return case(lambda x: function(x, **options))


def batch_norm(x, gamma, beta, mean, variance):
    return op.nn.batch_norm(x, gamma, beta, mean, variance, axis=1, epsilon=1e-3, training=False)[0]


def resize(mode: str, method: str, rounding: str, size=(13, 20)) -> Case:
    return case(
        lambda x: op.image.resize2d(
            x,
            size,
            layout="NCHW",
            method=method,
            coordinate_transformation_mode=mode,
            rounding_method=rounding,
        )
    )


CASES: dict[str, Case] = {
    **{name: case(function) for name, function in UNARY.items()},
    **{name: case(getattr(op, name), IMAGE, (4, 1, 11)) for name in BINARY},
    **{name: case(getattr(op, name), positive=True) for name in ("log", "rsqrt", "sqrt")},
    "power": case(op.power, IMAGE, IMAGE, positive=True),
    "divide integers": case(op.divide, (5, 7), (5, 7), dtypes=("int32", "int32"), positive=True),
    "logical_and": case(lambda x, y: op.logical_and(op.greater(x, y), op.less(x, y)), IMAGE, IMAGE),
    "logical_or": case(lambda x, y: op.logical_or(op.greater(x, y), op.less(x, y)), IMAGE, IMAGE),
    "logical_xor": case(lambda x, y: op.logical_xor(op.greater(x, y), op.less(x, y)), IMAGE, IMAGE),
    "logical_not": case(lambda x, y: op.logical_not(op.greater(x, y)), IMAGE, IMAGE),
    "where": case(lambda x, y: op.where(op.greater(x, y), x, y), IMAGE, IMAGE),
    "clip": case(lambda x: op.clip(x, -0.5, 0.7)),
    "nn.leakyrelu": case(lambda x: op.nn.leakyrelu(x, 0.3)),
    "nn.prelu": case(lambda x, s: op.nn.prelu(x, s, 1), IMAGE, (4,)),
    "nn.softplus": case(lambda x: op.nn.softplus(x, 2.0, 1.0)),
    "nn.softmax": case(lambda x: op.nn.softmax(x, 1)),
    "nn.log_softmax": case(lambda x: op.nn.log_softmax(x, -1)),
    "nn.conv1d": case(lambda x, w: op.nn.conv1d(x, w, 2, (1, 2)), (1, 4, 15), (6, 4, 3)),
    "nn.conv2d": case(lambda x, w: op.nn.conv2d(x, w, padding=1, groups=2), IMAGE, KERNEL),
    "nn.conv2d strided": case(lambda x, w: op.nn.conv2d(x, w, (2, 1), (1, 1)), IMAGE, (6, 4, 3, 5)),
    "nn.conv2d dilated": case(lambda x, w: op.nn.conv2d(x, w, dilation=(2, 3), groups=2), IMAGE, KERNEL),
    "nn.conv2d one-sided": case(lambda x, w: op.nn.conv2d(x, w, 2, (0, 1, 2, 3), groups=2), IMAGE, KERNEL),
    "nn.conv2d depthwise": case(lambda x, w: op.nn.conv2d(x, w, groups=4), IMAGE, (8, 1, 3, 3)),
    "nn.conv3d": case(
        lambda x, w: op.nn.conv3d(x, w, 2, (0, 1, 1, 1, 0, 1)), (1, 3, 6, 7, 8), (4, 3, 3, 3, 3)
    ),
    "nn.conv1d_transpose": case(
        lambda x, w: op.nn.conv1d_transpose(x, w, 2, (1, 0), 1), (1, 4, 9), (4, 5, 3)
    ),
    "nn.conv2d_transpose": case(
        lambda x, w: op.nn.conv2d_transpose(x, w, (2, 3), (1, 0, 1, 2), (1, 0)), IMAGE, (4, 5, 3, 4)
    ),
    "nn.conv2d_transpose grouped": case(
        lambda x, w: op.nn.conv2d_transpose(x, w, 2, 1, 1, groups=2), IMAGE, (4, 3, 3, 3)
    ),
    "nn.conv3d_transpose": case(
        lambda x, w: op.nn.conv3d_transpose(x, w, 2, (1, 0, 1, 1, 1, 0)), (1, 2, 3, 4, 5), (2, 3, 3, 3, 3)
    ),
    "nn.max_pool1d": case(lambda x: op.nn.max_pool1d(x, 3, 2, (0, 1)), (1, 4, 13)),
    "nn.max_pool2d": pool(op.nn.max_pool2d, pool_size=3, strides=2, padding=1),
    "nn.max_pool2d one-sided": pool(op.nn.max_pool2d, pool_size=3, strides=2, padding=(0, 0, 1, 1)),
    "nn.max_pool2d ceil": pool(op.nn.max_pool2d, pool_size=(3, 2), strides=2, padding=1, ceil_mode=True),
    "nn.max_pool2d ceil, window outside": pool(
        op.nn.max_pool2d, pool_size=2, strides=2, padding=1, ceil_mode=True
    ),
    "nn.max_pool2d dilated": pool(op.nn.max_pool2d, pool_size=3, strides=1, padding=2, dilation=2),
    "nn.max_pool3d": case(lambda x: op.nn.max_pool3d(x, 2, 2, ceil_mode=True), (1, 2, 5, 6, 7)),
    "nn.avg_pool1d": case(lambda x: op.nn.avg_pool1d(x, 3, 2, (0, 1)), (1, 4, 13)),
    **{
        f"nn.avg_pool2d {size} {stride} {padding} {ceil} {counted}": pool(
            op.nn.avg_pool2d,
            pool_size=size,
            strides=stride,
            padding=padding,
            ceil_mode=ceil,
            count_include_pad=counted,
        )
        for size, stride, padding in ((3, 2, 1), (2, 2, 1), (3, 3, (0, 0, 1, 1)), (2, 3, 0))
        for ceil in (False, True)
        for counted in (False, True)
    },
    "nn.avg_pool2d dilated": pool(op.nn.avg_pool2d, pool_size=3, padding=2, dilation=2),
    "nn.avg_pool3d": case(
        lambda x: op.nn.avg_pool3d(x, (5, 1, 1), padding=(2, 0, 0, 2, 0, 0), count_include_pad=True),
        (1, 2, 7, 4, 3),
    ),
    "nn.adaptive_avg_pool1d": case(lambda x: op.nn.adaptive_avg_pool1d(x, 3), (1, 4, 7)),
    "nn.adaptive_avg_pool2d": case(lambda x: op.nn.adaptive_avg_pool2d(x, (3, 1))),
    "nn.adaptive_avg_pool3d": case(lambda x: op.nn.adaptive_avg_pool3d(x, 1), (1, 2, 3, 4, 5)),
    "nn.pad": case(lambda x: op.nn.pad(x, (0, 0, 1, 0, 2, 3, 0, 1), pad_value=1.5)),
    "nn.pad reflect": case(lambda x: op.nn.pad(x, (0, 0, 0, 0, 2, 3, 0, 1), pad_mode="reflect")),
    "nn.batch_norm": case(batch_norm, IMAGE, (4,), (4,), (4,), (4,), positive=True),
    "nn.layer_norm": case(lambda x, g, b: op.nn.layer_norm(x, g, b, [-2, -1]), IMAGE, (9, 11), (9, 11)),
    "nn.group_norm": case(
        lambda x, g, b: op.nn.group_norm(x, g, b, 2, 1, [2, 3], epsilon=1e-3), IMAGE, (4,), (4,)
    ),
    "nn.instance_norm": case(lambda x, g, b: op.nn.instance_norm(x, g, b, 1, [2, 3]), IMAGE, (4,), (4,)),
    "matmul": case(op.matmul, (3, 5), (5, 7)),
    "matmul batched": case(op.matmul, (2, 3, 5), (5, 7)),
    "mean": case(lambda x: op.mean(x, [2, 3], True)),
    "sum": case(lambda x: op.sum(x, 1)),
    "max": case(lambda x: op.max(x, [0, -1])),
    "min": case(lambda x: op.min(x)),
    "prod": case(lambda x: op.prod(x, [1, 3])),
    "variance": case(lambda x: op.variance(x, [2, 3])),
    "std": case(lambda x: op.std(x, [1], True)),
    "argmax": case(lambda x: op.argmax(x, 1)),
    "argmin": case(lambda x: op.argmin(x, 1, True)),
    "astype": case(lambda x: op.astype(x, "int32")),
    "broadcast_to": case(lambda x: op.broadcast_to(x, (2, 4, 5)), (4, 1)),
    "concat": case(lambda x, y: op.concat([x, y], 1), IMAGE, (2, 3, 9, 11)),
    "stack": case(lambda x, y: op.stack([x, y], 1), IMAGE, IMAGE),
    "split": case(lambda x: op.concat([op.split(x, [1, 3], 1)[2], op.split(x, 2, 1)[0]], 1)),
    "reshape": case(lambda x: op.reshape(x, (2, -1, 11))),
    "flatten": case(op.flatten),
    "squeeze": case(lambda x: op.squeeze(x, [0, 2]), (1, 4, 1, 3)),
    "squeeze all": case(op.squeeze, (1, 4, 1, 3)),
    "expand_dims": case(lambda x: op.expand_dims(x, [1, -1])),
    "permute_dims": case(lambda x: op.permute_dims(x, [0, 2, 3, 1])),
    "permute_dims reversed": case(op.permute_dims),
    "strided_slice": case(lambda x: op.strided_slice(x, [1, 3], [1, 8], [4, 2], [2, -2])),
    "take": case(lambda x: op.take(x, relax.const([2, 0, 0], "int64"), 1)),
    "flip": case(lambda x: op.flip(x, 2)),
    "tile": case(lambda x: op.tile(x, (1, 2, 1, 3))),
    "repeat": case(lambda x: op.repeat(x, 2, 1)),
    "ones_like": case(op.ones_like),
    "zeros_like": case(op.zeros_like),
    **{
        f"image.resize2d {mode} {rounding}": resize(mode, "nearest_neighbor", rounding)
        for mode, rounding in (
            ("asymmetric", "floor"),
            ("half_pixel", "round_prefer_floor"),
            ("half_pixel", "round_prefer_ceil"),
            ("align_corners", "round"),
            ("asymmetric", "ceil"),
            ("tf_half_pixel_for_nn", "floor"),
            ("align_corners", ""),
        )
    },
    **{
        f"image.resize2d linear {mode}": resize(mode, "linear", "", size=(18, 5))
        for mode in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
    },
}

FREE_OF_NUMBERS = {"nn.dropout"}


def function_of(name: str) -> relax.Function:
    builder = relax.BlockBuilder()
    dtypes = CASES[name].dtypes or ("float32",) * len(CASES[name].shapes)
    arguments = [
        relax.Var(f"x{i}", relax.TensorType(shape, dtype))
        for i, (shape, dtype) in enumerate(zip(CASES[name].shapes, dtypes, strict=True))
    ]
    with builder.function("main", arguments):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(CASES[name].build(*arguments)))
        builder.emit_func_output(result)
    return builder.get()["main"]


@pytest.fixture(scope="module")
def functions() -> dict[str, relax.Function]:
    return {name: function_of(name) for name in CASES}


@pytest.fixture(scope="module")
def machine(functions) -> relax.VirtualMachine:
    module = tvm.IRModule(
        {
            f"case{index}": function.with_attr("global_symbol", f"case{index}")
            for index, function in enumerate(functions.values())
        }
    )
    return relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())


def arrays(name: str) -> list[np.ndarray]:
    generator = np.random.default_rng(len(name))
    dtypes = CASES[name].dtypes or ("float32",) * len(CASES[name].shapes)
    values = [generator.normal(0, 2, shape) for shape in CASES[name].shapes]
    if CASES[name].positive:
        values = [np.abs(value) + 1 for value in values]
    return [value.astype(dtype) for value, dtype in zip(values, dtypes, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_as_in_tvm(name, functions, machine):
    inputs = arrays(name)
    index = list(CASES).index(name)
    wanted = machine[f"case{index}"](*map(tvm.runtime.tensor, inputs)).numpy()
    (found,) = evaluate(tvm.IRModule({"main": functions[name]}), inputs)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_every_operator_has_a_case():
    tested = {name.partition(" ")[0] for name in CASES}
    assert OPERATORS.keys() - tested == FREE_OF_NUMBERS
