"""The convolution of packed tensors computes what torch does, whatever lies beyond the last channel."""

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import IRModule

import targets
from tuning.lowering.packed.convolution import NAME, convolved, fits, packed_weight
from tuning.prepare import prepare
from tuning.searching.processor import Processor

SMALL = Processor(lanes=4, registers=16, cores=2)


def call_of(case, weight: np.ndarray) -> relax.Call:
    (call,) = calls(case.module(weight, np.zeros((1, case.outputs, 1, 1), "float32")), "relax.nn.conv2d")
    return call


def calls(module: IRModule, name: str) -> list[relax.Call]:
    bindings = module["main"].body.blocks[0].bindings
    return [each.value for each in bindings if getattr(each.value, "op", None) == tvm.ir.Op.get(name)]


def lowered(case, blocks: tuple[int, int], processor: Processor = SMALL) -> IRModule:
    """Return the network of the packed layer; blocks in and out."""

    def emitted(builder: relax.BlockBuilder, data: relax.Expr, call: relax.Call, block: int) -> relax.Expr:
        return convolved(builder, data, call, block, processor)

    return case.packed_module(emitted, blocks)


@st.composite
def convolutions(draw: st.DrawFn) -> dict:
    kernel = draw(st.sampled_from([1, 1, 2, 3, 5]))
    return {
        "inputs": draw(st.integers(1, 20)),
        "outputs": draw(st.sampled_from([1, 4, 7, 16, 24, 37])),
        "height": draw(st.integers(9, 17)),
        "width": draw(st.integers(9, 17)),
        "kernel": kernel,
        "stride": draw(st.sampled_from([1, 1, 2])),
        "dilation": draw(st.sampled_from([1, 1, 2])),
        "padding": draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 0)])),
        "batch": draw(st.sampled_from([1, 1, 2])),
        "relu": draw(st.booleans()),
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=convolutions(), blocks=st.sampled_from([(1, 4), (4, 4), (8, 8), (8, 4)]))
def test_it_computes_what_torch_does(
    layer, host: targets.TargetInfo, sizes: dict, blocks: tuple[int, int]
) -> None:
    case = layer(**sizes)
    image, weight, bias = case.values()
    library = tvm.compile(prepare(lowered(case, blocks), host.target()), host.target())
    got = relax.VirtualMachine(library, tvm.cpu())["main"](tvm.runtime.tensor(case.packed(image, blocks[0])))
    wanted = case.in_torch(image, weight, bias)
    np.testing.assert_allclose(case.unpacked(got.numpy(), case.outputs), wanted, rtol=1e-4, atol=1e-4)


def test_bias_and_relu_are_fused_to_it(layer, host: targets.TargetInfo) -> None:
    module = prepare(lowered(layer(outputs=30), (8, 8)), host.target())
    (function,) = [each.name_hint for each in module.get_global_vars() if each.name_hint != "main"]
    assert function.startswith(f"fused_{NAME}_add_relu")


def test_weights_are_packed() -> None:
    weight = np.arange(10 * 3 * 2 * 1, dtype="float32").reshape(10, 3, 2, 1)
    found = packed_weight(weight, 4, 4)
    assert found.shape == (4, 3, 2, 1, 4)
    assert found[2, 1, 1, 0, 1] == weight[9, 1, 1, 0]
    assert not found[2, ..., 2:].any()
    assert not found[3].any()


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [({}, True), ({"kernel": 1, "stride": 2}, True), ({"groups": 2}, False), ({"dtype": "float16"}, False)],
    ids=str,
)
def test_what_fits(layer, sizes: dict, wanted: bool) -> None:
    case = layer(**sizes)
    assert fits(call_of(case, case.values()[1])) == wanted
