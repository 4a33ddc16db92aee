"""Small networks that several tests deploy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def write_onnx(path: Path, *, batch: int | str = 1) -> Path:
    """A trained-looking classifier: conv, batch norm, ReLU, max pool, dense, softmax."""
    rng = np.random.default_rng(0)
    weights = {
        "stem.weight": rng.normal(size=(8, 3, 3, 3)) / 3,
        "norm.weight": rng.uniform(0.5, 1.5, 8),
        "norm.bias": rng.normal(size=8),
        "norm.mean": rng.normal(size=8),
        "norm.var": rng.uniform(0.5, 1.5, 8),
        "head.weight": rng.normal(size=(128, 5)) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["a", "norm.weight", "norm.bias", "norm.mean", "norm.var"], ["b"], "norm"
        ),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("MaxPool", ["c"], ["d"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["d"], ["e"], "flatten"),
        helper.make_node("MatMul", ["e", "head.weight"], ["f"], "head"),
        helper.make_node("Softmax", ["f"], ["classes"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(array.astype("float32"), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def write_small_onnx() -> Callable[..., Path]:
    """A function that writes a small classifier to a path."""
    return write_onnx


@pytest.fixture
def small_onnx(tmp_path: Path) -> Path:
    """A small classifier as an ONNX file, in a folder with a blank and non-ASCII letters."""
    folder = tmp_path / "modèles à moi"
    folder.mkdir()
    return write_onnx(folder / "klein mit ß.onnx")


@pytest.fixture
def symbolic_onnx(tmp_path: Path) -> Path:
    """The same with an open batch size."""
    return write_onnx(tmp_path / "open.onnx", batch="N")


@pytest.fixture
def small_module() -> nn.Module:
    """A small torch network with a batch norm that folds."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 5),
    )
    with torch.no_grad():
        network(torch.randn(16, 3, 8, 8))
    return network.eval()
