"""The program that trains on Fashion-MNIST, and the trained network that lies beside it."""

import subprocess
import sys
from pathlib import Path

import fashion
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from fashion_networks import NETWORKS
from onnx import numpy_helper

from pipeline import load_network
from pipeline.data import open_data
from pipeline.torch_threads import one_thread

EXAMPLES = Path(fashion.__file__).parent
TRAINED = EXAMPLES / "fashion_googlenet.onnx"
needs_data = pytest.mark.skipif(
    not fashion.DATA.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    for what, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{part}-{what}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Bright images of class 1 and dark ones of class 0, in MNIST's files."""
    folder = tmp_path / "données à moi"
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", fashion.HELD_OUT + 64), ("t10k", 20)):
        labels = random.integers(0, 2, count)
        images = random.integers(0, 100, (count, 8, 8)) + 150 * labels[:, None, None]
        write_idx(folder, part, images, labels)
    return folder


@needs_data
def test_the_trained_googlenet_classifies_test_images():
    data = open_data(fashion.DATA, None, load_network(TRAINED))
    batch = data.validation.fetch(range(1000), None)
    session = onnxruntime.InferenceSession(str(TRAINED), providers=["CPUExecutionProvider"])
    scores = [session.run(None, {"input": image[None].numpy()})[0] for image in batch.inputs[0]]
    right = torch.from_numpy(np.concatenate(scores)).argmax(1) == batch.labels
    assert right.float().mean() > 0.9


def test_the_trained_googlenet_has_the_layers_of_the_source():
    stored = onnx.load(TRAINED)
    shapes = {each.name: tuple(each.dims) for each in stored.graph.initializer}
    parameters = dict(NETWORKS["googlenet"]().named_parameters())
    stored_weights = sorted(shape for shape in shapes.values() if len(shape) == 4)
    assert stored_weights == sorted(tuple(each.shape) for each in parameters.values() if each.ndim == 4)
    assert sum(np.prod(shape) for shape in shapes.values()) >= sum(
        each.numel() for each in parameters.values()
    )
    assert TRAINED.stat().st_size < 2e6
    assert all(np.isfinite(numpy_helper.to_array(each)).all() for each in stored.graph.initializer)


@pytest.mark.parametrize(("name", "millions"), [("googlenet", 0.38), ("alexnet", 0.15), ("resnet", 0.34)])
def test_sizes_are_what_the_source_says(name, millions):
    count = sum(each.numel() for each in NETWORKS[name]().parameters())
    assert round(count / 1e6, 2) == millions
    assert f"{millions} M parameters" in NETWORKS[name].__doc__


def test_training_learns_and_depends_on_the_seed_alone(stripes):
    source = fashion.open_for(fashion.new_network("alexnet", seed=0), stripes).training
    training, held_out = (fashion.Samples(source, range(*ends)) for ends in ((0, 128), (128, 192)))
    weights, said = [], []
    with one_thread():
        for epochs in (2, 2, 25):
            network = fashion.new_network("alexnet", seed=3)
            fashion.train(network, training, held_out, epochs=epochs, say=said.append)
            weights.append(network.classifier.weight)
        assert fashion.accuracy(network, held_out) > 90
    assert not network.training
    assert len(said) == 29
    assert torch.equal(weights[0], weights[1])


def test_half_of_the_images_are_mirrored():
    torch.manual_seed(0)
    images = torch.rand(200, 1, 4, 4)
    mirrored = fashion.half_mirrored(images)
    same, flipped = ((mirrored == each).flatten(1).all(1) for each in (images, images.flip(-1)))
    assert (same ^ flipped).all()
    assert 60 < same.sum() < 140


def test_the_program_writes_a_network(stripes, tmp_path):
    place = tmp_path / "größe 64.onnx"
    command = [sys.executable, EXAMPLES / "fashion.py", "alexnet", place, "--epochs", "1", "--threads", "1"]
    done = subprocess.run(
        [*command, "--data", stripes], capture_output=True, text=True, timeout=120, check=True
    )
    assert "epoch 1 of 1" in done.stdout
    assert done.stdout.endswith("% on test images\n")
    network = load_network(place)
    assert (network.inputs[0].shape, network.outputs[0].shape) == ((1, 1, 64, 64), (1, 10))


def test_missing_data_is_one_line(tmp_path):
    command = [sys.executable, EXAMPLES / "fashion.py", "alexnet", tmp_path / "a.onnx", "--data", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
