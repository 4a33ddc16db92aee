"""Whole networks beside other engines: the processes they run in, and the ratios."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from engines.process import Peer, PeerError
from peers import ORIGINAL, OURS, QUARTER, TUCKER, summary, times_as_fast, without_softmax

import pipeline
import targets
import tuning
from relay_passes import inline_composites

MODEL = Path(__file__).parents[2] / "examples/fashion_googlenet.onnx"


@pytest.fixture(scope="module")
def network() -> pipeline.network.Network:
    return pipeline.load_network(MODEL)


def test_engines_compute_the_same_in_processes_of_their_own(network, tmp_path: Path) -> None:
    compiled = tuning.compile_module(inline_composites(network.module), targets.find("host"), None)
    compiled.export(tmp_path / "library.so", tmp_path / "weights.params")
    inputs = list(network.golden.inputs.values())
    with Peer(OURS, tmp_path, 1, inputs) as ours, Peer("onnxruntime", MODEL, 1, inputs) as theirs:
        for peer in (ours, theirs, ours):
            assert len(peer.run(3)) == 3
        for given, wanted in zip(ours.outputs, theirs.outputs, strict=True):
            np.testing.assert_allclose(given, wanted, atol=1e-4)


def test_an_engine_that_cannot_is_told_in_a_line(network, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"^onnxruntime: [^\n]+$"):
        Peer("onnxruntime", tmp_path / "none.onnx", 1, list(network.golden.inputs.values()))


def test_what_a_softmax_hides_is_compared(network) -> None:
    model = onnx.load(MODEL)
    (sums,), (image,) = model.graph.output, network.golden.inputs.values()
    powers = onnx.helper.make_tensor_value_info("powers", onnx.TensorProto.FLOAT, (1, 10))
    model.graph.node.append(onnx.helper.make_node("Softmax", [sums.name], [powers.name], axis=1))
    sums.CopyFrom(powers)
    (found,) = onnxruntime.InferenceSession(without_softmax(model).SerializeToString()).run(
        None, {model.graph.input[0].name: image}
    )
    np.testing.assert_allclose(found, *network.golden.outputs.values(), atol=1e-5)


def test_a_turn_is_compared_with_itself() -> None:
    turns = {OURS: [1.0, 10.0, 1.0], QUARTER: [2.0, 20.0, 2.0], "ncnn": [3.0, 30.0, 2.5]}
    assert times_as_fast(turns, OURS) == {"ncnn": 3.0}
    assert times_as_fast(turns, QUARTER) == {"ncnn": 1.5}


def test_ratios_are_against_the_fastest_peer() -> None:
    def row(variant: str, **ahead: float) -> dict:
        named = {name.replace("_", " "): each for name, each in ahead.items()}
        slower = {name: each / 2 for name, each in named.items()}
        return {"variant": variant, "times_as_fast": {OURS: named, QUARTER: slower}}

    rows = [
        row(ORIGINAL, onnxruntime=2.0, openvino=1.5),
        row("merged", onnxruntime=2.0, openvino=2.5, original_in_openvino=3.0, original_in_ncnn=3.5),
        row(TUCKER, onnxruntime=2.0, openvino=2.0, original_in_openvino=6.0),
    ]
    found = summary(rows)
    assert {name: each["geomean"] for name, each in found["ratios"].items()} == {
        "tuned_original_vs_best_peer": 1.5,
        "merged_vs_best_peer_merged": 2.0,
        "merged_vs_best_peer": 3.0,
        "merged_tucker_vs_best_peer": 6.0,
    }
    assert found["ratios_after_a_quarter"]["tuned_original_vs_best_peer"]["min"] == 0.75
