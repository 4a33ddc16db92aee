"""Concatenations written in place: the numbers of the copying network, and no copy where none is needed."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from tvm import relax, te, tirx, topi
from tvm.s_tir import Schedule

import targets
from tuning.functions import Calls
from tuning.memory import plan_memory
from tuning.memory.concatenation import sizes_of_parts
from tuning.prepare import prepare

COPYING = relax.transform.StaticPlanBlockMemory
ROWS, COLUMNS = 3, 5
LINE = 16


class Graph:
    """A network of functions that are not fused, and its numbers in NumPy."""

    def __init__(self, channels: Sequence[int], batch: int = 1) -> None:
        rng = np.random.default_rng(0)
        self.shapes = [(batch, each, ROWS, COLUMNS) for each in channels]
        self.arrays = [rng.standard_normal(shape).astype("float32") for shape in self.shapes]
        self.builder = relax.BlockBuilder()
        self.inputs = [
            relax.Var(f"x{at}", relax.TensorType(each, "float32")) for at, each in enumerate(self.shapes)
        ]
        self.values = dict(zip(self.inputs, self.arrays, strict=True))

    def twice(self, x: relax.Var) -> relax.Var:
        result = self.builder.emit_te(lambda each: topi.add(each, each), x)
        self.values[result] = 2 * self.values[x]
        return result

    def concat(self, *parts: relax.Var, axis: int = 1) -> relax.Var:
        function = {"primfunc_name_hint": "concat"}
        result = self.builder.emit_te(lambda *each: topi.concatenate(each, axis), *parts, **function)
        self.values[result] = np.concatenate([self.values[each] for each in parts], axis)
        return result

    def reshape(self, x: relax.Var, shape: Sequence[int]) -> relax.Var:
        result = self.builder.emit(relax.op.reshape(x, shape))
        self.values[result] = self.values[x].reshape(shape)
        return result

    def module(self, write: Callable[..., Sequence[relax.Var]]) -> tvm.IRModule:
        with self.builder.function("main", self.inputs, attrs={"num_input": len(self.inputs)}):
            with self.builder.dataflow():
                results = write(self, *self.inputs)
                self.results = [self.values[each] for each in results]
                outputs = [self.builder.emit_output(each) for each in results]
            self.builder.emit_func_output(relax.Tuple(outputs))
        return self.builder.get()


class Run:
    """What a network computes, the functions it calls, and the bytes planned for it."""

    def __init__(self, module: tvm.IRModule, arrays: Sequence[np.ndarray], plan: tvm.transform.Pass) -> None:
        self.calls, self.planned = Calls(), 0
        with targets.find("host").target() as target, tvm.transform.PassContext(opt_level=3):
            executable = relax.build(module, target, relax_pipeline=self._lowering(plan))
        outputs = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, arrays))
        self.outputs = [each.numpy() for each in ([outputs] if hasattr(outputs, "numpy") else outputs)]

    @property
    def copies(self) -> int:
        return sum(each.calls for each in self.calls.functions(None) if "concat" in each.name)

    def _lowering(self, plan: tvm.transform.Pass) -> tvm.transform.Pass:
        return tvm.transform.Sequential(
            [
                relax.transform.RewriteDataflowReshape(),
                relax.transform.ToNonDataflow(),
                relax.transform.RemovePurityChecking(),
                relax.transform.CallTIRRewrite(),
                plan,
                self.calls.as_pass(),
                tvm.transform.module_pass(self._sum, opt_level=0),
                relax.transform.LowerAllocTensor(),
                relax.transform.KillAfterLastUse(),
                relax.transform.LowerRuntimeBuiltin(),
                relax.transform.ComputePrimValue(),
                relax.transform.VMShapeLower(),
                relax.transform.AttachGlobalSymbol(),
            ]
        )

    def _sum(self, module: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        def add(expression: tvm.ir.Expr) -> None:
            storage = tvm.ir.Op.get("relax.memory.alloc_storage")
            if isinstance(expression, relax.Call) and expression.op == storage:
                self.planned += int(expression.args[0].values[0])

        relax.analysis.post_order_visit(module["main"].body, add)
        return module


def in_place(graph: Graph, write: Callable[..., Sequence[relax.Var]]) -> Run:
    """Run a network with its concatenations in place; its numbers must be NumPy's."""
    run = Run(graph.module(write), graph.arrays, plan_memory())
    for output, wanted in zip(run.outputs, graph.results, strict=True):
        np.testing.assert_array_equal(output, wanted)
    return run


class Layers:
    """Convolutions and pools in Relax, and the same in torch with 64 bits."""

    def __init__(self, channels: int) -> None:
        self.image = torch.randn(1, channels, 13, 13, generator=torch.manual_seed(0))
        self.builder = relax.BlockBuilder()
        self.input = relax.Var("image", relax.TensorType(tuple(self.image.shape), "float32"))
        self.values = {self.input: self.image.double()}

    def conv(self, x: relax.Var, channels: int, size: int) -> relax.Var:
        weight = torch.randn(channels, self.values[x].shape[1], size, size) / size**2
        y = self.builder.emit(relax.op.nn.conv2d(x, relax.const(weight.numpy()), padding=size // 2))
        y = self.builder.emit(relax.op.nn.relu(y))
        self.values[y] = F.conv2d(self.values[x], weight.double(), padding=size // 2).relu()
        return y

    def pool(self, x: relax.Var) -> relax.Var:
        y = self.builder.emit(relax.op.nn.max_pool2d(x, (3, 3), padding=(1, 1)))
        self.values[y] = F.max_pool2d(self.values[x], 3, 1, 1)
        return y

    def concat(self, *parts: relax.Var) -> relax.Var:
        y = self.builder.emit(relax.op.concat(parts, axis=1))
        self.values[y] = torch.cat([self.values[each] for each in parts], 1)
        return y

    def module(self, write: Callable[["Layers", relax.Var], relax.Var], times: int) -> tvm.IRModule:
        with self.builder.function("main", [self.input], attrs={"num_input": 1}):
            with self.builder.dataflow():
                y = self.input
                for _ in range(times):
                    y = write(self, y)
                y = self.pool(y)
                self.wanted = self.values[y].numpy()
                result = self.builder.emit_output(y)
            self.builder.emit_func_output(result)
        return prepare(self.builder.get(), targets.find("host").target())


def fire(layers: Layers, x: relax.Var) -> relax.Var:
    """SqueezeNet's: two convolutions of one input."""
    x = layers.conv(x, 4, 1)
    return layers.concat(layers.conv(x, 16, 1), layers.conv(x, 16, 3))


def inception(layers: Layers, x: relax.Var) -> relax.Var:
    """GoogLeNet's: four branches, one of them behind a pool."""
    return layers.concat(
        layers.conv(x, 32, 1),
        layers.conv(layers.conv(x, 4, 1), 16, 3),
        layers.conv(layers.conv(x, 4, 1), 48, 5),
        layers.conv(layers.pool(x), 16, 1),
    )


def reduction(layers: Layers, x: relax.Var) -> relax.Var:
    """Inception's second version has some that concatenate a pool itself."""
    return layers.concat(layers.conv(x, 16, 3), layers.pool(x))


@pytest.mark.parametrize(("write", "times"), [(fire, 2), (inception, 1), (reduction, 1)])
def test_modules_of_well_known_networks(write: Callable[[Layers, relax.Var], relax.Var], times: int) -> None:
    layers = Layers(16)
    module = layers.module(write, times)
    copying, without = (Run(module, [layers.image.numpy()], plan) for plan in (COPYING(), plan_memory()))
    assert (copying.copies, without.copies) == (times, 0)
    assert without.planned <= 1.1 * copying.planned
    np.testing.assert_array_equal(without.outputs[0], copying.outputs[0])
    np.testing.assert_allclose(without.outputs[0], layers.wanted, rtol=1e-5, atol=1e-5)


def test_a_row_of_concatenations_grows_in_one_place() -> None:
    """As in DenseNet: each layer reads all that came before it, and its result is put behind that."""
    graph = Graph([LINE, LINE])

    def write(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
        x = graph.twice(x)
        for _ in range(3):
            y = graph.twice(y)
            x = graph.concat(x, y)
        return [graph.twice(x)]

    run = in_place(graph, write)
    assert run.copies == 0
    assert run.planned == (1 + 3) * graph.arrays[0].nbytes


def test_a_part_may_be_reshaped_before() -> None:
    def write(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
        parts = [graph.reshape(graph.twice(each), (1, LINE * ROWS, COLUMNS)) for each in (x, y)]
        whole = graph.reshape(graph.concat(*parts), (1, 2 * LINE * ROWS * COLUMNS))
        return [graph.twice(whole), graph.twice(graph.reshape(parts[1], (LINE, ROWS, COLUMNS)))]

    assert in_place(Graph([LINE, LINE]), write).copies == 0


def of_input(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
    return [graph.twice(graph.concat(graph.twice(x), y))]


def of_result(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
    part = graph.twice(x)
    return [graph.twice(graph.concat(part, graph.twice(y))), part]


def as_result(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
    return [graph.concat(graph.twice(x), graph.twice(y))]


def as_reshaped_result(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
    return [graph.reshape(graph.concat(graph.twice(x), graph.twice(y)), (2 * LINE, ROWS, COLUMNS))]


def of_itself(graph: Graph, x: relax.Var, _: relax.Var) -> list[relax.Var]:
    part = graph.twice(x)
    return [graph.twice(graph.concat(part, part))]


def of_itself_by_another_name(graph: Graph, x: relax.Var, _: relax.Var) -> list[relax.Var]:
    part = graph.reshape(graph.twice(x), (1, LINE, ROWS * COLUMNS))
    return [graph.twice(graph.concat(part, graph.reshape(part, (1, LINE, ROWS * COLUMNS))))]


def along_rows(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
    return [graph.twice(graph.concat(graph.twice(x), graph.twice(y), axis=2))]


ELSEWHERE = [
    of_input,
    of_result,
    as_result,
    as_reshaped_result,
    of_itself,
    of_itself_by_another_name,
    along_rows,
]


@pytest.mark.parametrize("write", ELSEWHERE)
def test_what_lies_elsewhere_is_copied(write: Callable[..., Sequence[relax.Var]]) -> None:
    assert in_place(Graph([LINE, LINE]), write).copies == 1


def test_parts_that_would_begin_between_lines_are_copied() -> None:
    def write(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
        return [graph.twice(graph.concat(graph.twice(x), graph.twice(y)))]

    assert in_place(Graph([LINE - 1, LINE]), write).copies == 1
    assert in_place(Graph([LINE, LINE - 1]), write).copies == 0


def test_a_batch_of_two_is_copied() -> None:
    def write(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
        return [graph.twice(graph.concat(graph.twice(x), graph.twice(y)))]

    assert in_place(Graph([LINE, LINE], batch=2), write).copies == 1


def test_of_two_concatenations_of_one_tensor_the_larger_is_in_place() -> None:
    def write(graph: Graph, x: relax.Var, y: relax.Var) -> list[relax.Var]:
        first, second, third = graph.twice(x), graph.twice(y), graph.twice(y)
        small = graph.concat(first, second)
        large = graph.concat(first, second, third)
        return [graph.twice(small), graph.twice(large)]

    run = in_place(Graph([LINE, LINE]), write)
    (left,) = (each for each in run.calls.functions(None) if "concat" in each.name)
    assert len(left.arguments) == 2 + 1


def test_a_gpu_copies() -> None:
    graph = Graph([LINE, LINE])
    module = graph.module(as_result)
    phases = [relax.transform.ToNonDataflow(), relax.transform.RemovePurityChecking()]
    lowered = tvm.transform.Sequential([*phases, relax.transform.CallTIRRewrite()])(module)
    with tvm.target.Target({"kind": "opencl", "device": "mali"}, host="llvm"):
        tvm.ir.assert_structural_equal(plan_memory()(lowered), COPYING()(lowered))


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Draw steps, each the values it reads by number: one of them is doubled, several are concatenated."""
    made = []
    for values in range(2, draw(st.integers(4, 10))):
        several = draw(st.booleans())
        read = st.integers(0, values - 1)
        made.append(tuple(draw(st.lists(read, min_size=2, max_size=3))) if several else (draw(read),))
    return made


@settings(max_examples=8, deadline=None)
@given(steps(), st.tuples(*[st.sampled_from([1, 3, LINE, 3 * LINE])] * 2), st.integers(0, 9))
def test_random_graphs(steps: list[tuple[int, ...]], channels: tuple[int, int], result: int) -> None:
    def write(graph: Graph, *inputs: relax.Var) -> list[relax.Var]:
        values = list(inputs)
        for read in steps:
            parts = [values[each] for each in read]
            values.append(graph.concat(*parts) if len(parts) > 1 else graph.twice(*parts))
        return [values[-1], graph.twice(values[result % len(values)])]

    in_place(Graph(channels), write)


def concatenation(*shapes: Sequence[int], axis: int = 1) -> tirx.PrimFunc:
    parts = [te.placeholder(shape, "float32", f"x{at}") for at, shape in enumerate(shapes)]
    return te.create_prim_func([*parts, topi.concatenate(parts, axis)])


def test_a_scheduled_concatenation_is_known() -> None:
    schedule = Schedule(concatenation((1, 3, 4, 5, 8), (1, 2, 4, 5, 8)), debug_mask="none")
    *outer, inner = schedule.get_loops(schedule.get_child_blocks(schedule.get_sblock("root"))[0])
    jobs, rest = schedule.split(schedule.fuse(*outer), [None, 7])
    schedule.parallel(jobs)
    schedule.unroll(rest)
    schedule.vectorize(inner)
    assert sizes_of_parts(schedule.mod["main"]) == [3 * 4 * 5 * 8 * 4, 2 * 4 * 5 * 8 * 4]


X, Y = (te.placeholder((1, 2, 3), "float32", name) for name in "xy")


@pytest.mark.parametrize(
    "function",
    [
        concatenation((2, 3, 4), (2, 3, 4)),
        concatenation((1, 3, 4), (1, 3, 4), axis=2),
        te.create_prim_func([X, topi.add(X, X)]),
        te.create_prim_func([X, Y, topi.concatenate([Y, X], 1)]),
        te.create_prim_func([X, Y, topi.nn.relu(topi.concatenate([X, Y], 1))]),
        te.create_prim_func([X, Y, topi.flip(topi.concatenate([X, Y], 1), 1)]),
        te.create_prim_func(
            [
                X,
                Y,
                te.compute(
                    (1, 4, 3), lambda _, c, i: tirx.if_then_else(c >= 2, Y[0, c - 2, i], X[0, 1 - c, i])
                ),
            ]
        ),
    ],
    ids=[
        "batch",
        "another axis",
        "one tensor",
        "another order",
        "something more",
        "turned",
        "other elements",
    ],
)
def test_other_functions_are_no_concatenations(function: tirx.PrimFunc) -> None:
    assert sizes_of_parts(function) is None
