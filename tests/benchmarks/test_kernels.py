"""Our convolutions beside onnxruntime's: what is compared, and what is counted in ours."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
from codegen.startup import thread_startup
from codegen.x86 import InnerLoop, inner_loop_of, read_disassembly
from googlenet import googlenet
from kernels import layout_transforms, summary
from single_convolutions import Convolution, heaviest

import targets
import tuning
from tuning.functions import NetworkFunction

LISTING = """
0000000000001000 <main>:
    1000:\tmov    $0x5,%ecx
    1005:\tvmovups (%rdi),%zmm0
    1009:\tvfmadd231ps (%rsi){1to16},%zmm0,%zmm1
    1010:\tvfmadd231ps %zmm0,%zmm3,%zmm2
    1014:\tvmovups %zmm2,0x40(%rsp)
    1018:\tvmovups %zmm1,(%rdx)
    101c:\tlea    0x40(%rdi),%rdi
    1020:\tdec    %ecx
    1022:\tjne    1005 <main+0x5>
    1024:\tvfmadd231ss (%rsi),%xmm0,%xmm1
    1028:\tjne    1024 <main+0x24>
    102a:\tret
"""


def test_the_inner_loop_of_x86_code() -> None:
    loop = inner_loop_of(read_disassembly(LISTING))
    assert loop == InnerLoop(instructions=8, multiply_adds=2, lanes=16, memory=4, stores=2, spills=1)


def test_code_that_multiplies_nothing_has_no_inner_loop() -> None:
    assert inner_loop_of(read_disassembly("    10:\tdec %ecx\n    12:\tjne 10 <main>\n")) is None


def test_handing_work_to_threads_takes_time() -> None:
    host = targets.find("host").with_threads(2)
    with tuning.LocalSession(host) as session:
        assert thread_startup(session, host) > 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "googlenet.onnx"
    onnx.save_model(googlenet(), path)
    return path


def test_the_heaviest_convolutions_of_a_network(model: Path) -> None:
    found = heaviest(model, 3)
    heavy, calls = found[0]
    assert (str(heavy), calls) == ("64x55x55 -> 192, 3x3/1", 1)
    assert heavy.multiply_adds == 192 * 55 * 55 * 64 * 9
    costs = [each.multiply_adds * calls for each, calls in found]
    assert costs == sorted(costs, reverse=True)


def test_each_is_a_network_of_its_own(model: Path, tmp_path: Path) -> None:
    for number, (convolution, _) in enumerate(heaviest(model, 5)):
        session = onnxruntime.InferenceSession(convolution.write(tmp_path / f"{number}.onnx"))
        (given,), (result,) = session.get_inputs(), session.get_outputs()
        assert (tuple(given.shape), tuple(result.shape)) == (convolution.image, convolution.output)


def test_a_convolution_without_a_relu_ends_with_its_sums(tmp_path: Path) -> None:
    one = Convolution((1, 4, 5, 5), (6, 2, 3, 3), (1, 6, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 2, relu=False)
    written = onnx.load(one.write(tmp_path / "one.onnx"))
    assert [node.op_type for node in written.graph.node] == ["Conv"]
    assert one.multiply_adds == 6 * 3 * 3 * 2 * 9


def test_calls_that_change_a_layout_are_counted() -> None:
    names = {"unpack": 1, "pack1": 2, "fused_pack_relu": 4, "fused_packed_conv2d_add": 8, "packed_lrn2": 16}
    functions = [NetworkFunction(name, calls, 1, ()) for name, calls in names.items()]
    assert layout_transforms(functions) == 7


def test_the_mean_is_geometric() -> None:
    rows = [
        {"network": "original", "ours_gflops": 200.0, "onnxruntime_gflops": 100.0},
        {"network": "merged", "ours_gflops": 100.0, "onnxruntime_gflops": 200.0},
    ]
    found = summary(rows)
    assert found["geomean_vs_onnxruntime"] == 1.0
    assert found["by_network"] == {"original": 2.0, "merged": 0.5}
