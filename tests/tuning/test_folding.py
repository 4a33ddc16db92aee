"""Calls on constants are computed when a network is built, those that depend on each other too."""

import numpy as np
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, te
from tvm.ir import GenericConst, IRModule

from tuning.folding import fold


def swapped(x: te.Tensor) -> te.Tensor:
    return te.compute((x.shape[1], x.shape[0]), lambda i, j: x[j, i])


def both(x: te.Tensor) -> list[te.Tensor]:
    return [te.compute(x.shape, lambda i, j: x[i, j] + 1), te.compute(x.shape, lambda i, j: x[i, j] * 2)]


def total(x: te.Tensor, y: te.Tensor, z: te.Tensor) -> te.Tensor:
    return te.compute(x.shape, lambda i, j: x[i, j] + y[i, j] - z[i, j])


def network(values: np.ndarray) -> IRModule:
    """Swaps the axes of a constant, makes two of it, and adds both to its input."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(values.shape[::-1], "float32"))
    with builder.function("main", [x], attrs={"num_input": 1}):
        with builder.dataflow():
            pair = builder.emit_te(both, builder.emit_te(swapped, relax.const(values)))
            parts = [builder.emit(relax.TupleGetItem(pair, place)) for place in (0, 1)]
            result = builder.emit_output(builder.call_te(total, x, *parts))
        builder.emit_func_output(result)
    return builder.get()


def constants(module: IRModule) -> list[np.ndarray]:
    found: list[np.ndarray] = []

    def visit(expression: tvm.ir.Expr) -> None:
        if isinstance(expression, GenericConst):
            found.append(expression.value.numpy())

    relax.analysis.post_order_visit(module["main"].body, visit)
    return found


@settings(max_examples=3, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_chains_and_pairs_are_computed(rows: int, columns: int) -> None:
    values = np.random.default_rng(0).standard_normal((rows, columns)).astype("float32")
    folded = relax.transform.DeadCodeElimination()(fold(network(values)))
    names = {name.name_hint for name in folded.get_global_vars()}
    assert names == {"main", "total"}
    for got, wanted in zip(constants(folded), (values.T + 1, values.T * 2), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_network_without_such_calls_stays_as_it_is() -> None:
    folded = relax.transform.DeadCodeElimination()(fold(network(np.ones((2, 3), "float32"))))
    assert fold(folded) is folded
