"""Small networks that several tests deploy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.data import Preprocessing
from pipeline.exporter import to_onnx
from pipeline.importer import load_network
from pipeline.merging import MergeRequest, merge_network
from pipeline.retraining.records import DataFacts, Retraining, StepResult
from pipeline.retraining.settings import Settings
from relay_passes import REBORN
from targets import TargetError
from targets.runtime.opencl import OpenCLDevice, listing


@pytest.fixture(scope="session")
def opencl() -> OpenCLDevice:
    """The OpenCL device of this machine, PoCL where there is no GPU."""
    try:
        return listing().chosen
    except TargetError as error:
        pytest.skip(f"no OpenCL here: {error}")


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


def write_retrained(
    directory: Path,
    model: Path,
    *,
    trained: bool = True,
    input_shapes: dict[str, tuple[int, ...]] | None = None,
) -> Retraining:
    """What `retrain` leaves behind, without any training: the reborn layers keep their first weights."""
    network = load_network(model, input_shapes=input_shapes)
    merged = merge_network(network, MergeRequest(retraining=True))
    module = merged.module.without_attr(REBORN) if trained else merged.module
    properties = {} if trained else {REBORN: '["stem"]'}
    written = to_onnx(
        module,
        name=network.name,
        inputs=[spec.name for spec in network.inputs],
        outputs=[spec.name for spec in network.outputs],
        properties=properties,
    )
    record = Retraining(
        network=network.name,
        source_digest=network.source_digest,
        metric="top-1",
        original=91.25,
        accuracy=91.0,
        training=DataFacts(name="digits/train", samples=4000, classes=5, labelled=True),
        validation=DataFacts(
            name="digits/val", samples=399, classes=5, labelled=True, unreadable=("a b.png",), skipped=1
        ),
        preprocessing=Preprocessing(resize=9, size=(8, 8), mean=(0.5,), std=(0.25,)),
        settings=Settings(),
        steps=(
            StepResult(
                name="stem",
                merges=("stem",),
                kept=True,
                before=91.25,
                started=40.5,
                accuracy=91.0,
                iterations=120,
                epochs=1.9,
                seconds=75.2,
            ),
            StepResult(
                name="tail",
                merges=("tail",),
                kept=False,
                reason="lost 3.5 points after 2 epochs",
                before=91.0,
                started=20.0,
                accuracy=87.5,
                iterations=125,
                epochs=2.0,
                seconds=80.0,
            ),
        ),
        plan=merged.plan,
    )
    directory.mkdir(parents=True)
    onnx.save(written, directory / "network.onnx")
    (directory / "retraining.json").write_text(record.model_dump_json(), encoding="utf-8")
    return record


@pytest.fixture(scope="session")
def write_retraining() -> Callable[..., Retraining]:
    """A function that writes the result of a retraining of a model into a directory."""
    return write_retrained
