"""A bundle of a tiny convolution, compiled by TVM."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

from pipeline.bundle import Bundle, write_bundle
from pipeline.report.model import Target

WEIGHTS = {"weight_00000": (4, 3, 3, 3), "weight_00001": (1, 4, 1, 1)}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared object whose `main(data, weight, bias)` returns relu(conv(data)) and the convolution."""
    builder = relax.BlockBuilder()
    shapes = {"data": (1, 3, 8, 8), "weight": (4, 3, 3, 3), "bias": (1, 4, 1, 1)}
    data, weight, bias = (
        relax.Var(name, relax.TensorType(shape, "float32")) for name, shape in shapes.items()
    )
    with builder.function("main", [data, weight, bias]):
        with builder.dataflow():
            convolved = builder.emit(relax.op.nn.conv2d(data, weight, padding=1))
            biased = builder.emit_output(relax.op.add(convolved, bias))
            result = builder.emit_output(relax.op.nn.relu(biased))
        builder.emit_func_output(relax.Tuple([result, biased]))
    path = tmp_path_factory.mktemp("library") / "tiny.so"
    tvm.compile(builder.get(), target=tvm.target.Target({"kind": "llvm"})).export_library(str(path))
    return path


@pytest.fixture(scope="session")
def arrays() -> dict[str, dict[str, np.ndarray]]:
    """Weights, an input, and the outputs that torch computes from them."""
    random = np.random.default_rng(7)
    weights = {name: random.standard_normal(shape, "float32") for name, shape in WEIGHTS.items()}
    data = random.standard_normal((1, 3, 8, 8), "float32")
    kernel, bias = (torch.from_numpy(each) for each in weights.values())
    biased = torch.nn.functional.conv2d(torch.from_numpy(data), kernel, bias.flatten(), padding=1)
    return {
        "weights": weights,
        "golden_inputs": {"data": data},
        "golden_outputs": {"relu": biased.relu().numpy(), "conv": biased.numpy()},
    }


@pytest.fixture
def save_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, np.ndarray]], Path]:
    """Write weights in TVM's own format."""

    def save(weights: dict[str, np.ndarray]) -> Path:
        path = tmp_path_factory.mktemp("weights") / "tiny.params"
        path.write_bytes(tvm.runtime.save_param_dict(weights))
        return path

    return save


@pytest.fixture
def write(library: Path, arrays: dict, save_weights: Callable[..., Path]) -> Callable[..., Bundle]:
    """Write the tiny bundle into a directory; keyword arguments change what is written."""

    def write(directory: Path, **changes: object) -> Bundle:
        facts = {
            "name": "tiny",
            "library": library,
            "weights": save_weights(arrays["weights"]),
            "golden_inputs": arrays["golden_inputs"],
            "golden_outputs": arrays["golden_outputs"],
            "target": Target(name="host", triple="x86_64-linux-gnu", cpu="native", threads=2),
            "versions": {"apache-tvm": "0.27.0.post1"},
            "tuned_trials": 0,
            "records_applied": 0,
            "tolerance": 1e-4,
        }
        return write_bundle(directory, **facts | changes)

    return write
