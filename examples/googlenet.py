"""Write GoogLeNet with seeded weights: `python examples/googlenet.py OUT.onnx [--seed 0]`.

The onnx package holds the network's structure (light_inception_v1) without weights. It gets He-normal ones,
so that values keep their size from layer to layer, and classifies nothing.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

STRUCTURE = Path(onnx.__file__).parent / "backend/test/data/light/light_inception_v1.onnx"
INITIALIZERS_NEED_NO_INPUT = 4
"""The version of ONNX's file format since which weights need not be listed as inputs."""


def googlenet(seed: int = 0) -> onnx.ModelProto:
    """Build the network.

    Parameters
    ----------
    seed : int
        The same seed gives the same weights.

    Returns
    -------
    onnx.ModelProto
        Input `data_0`, 1x3x224x224; output `prob_1`, 1x1000.
    """
    model = onnx.load_model(STRUCTURE)
    model.ir_version = max(model.ir_version, INITIALIZERS_NEED_NO_INPUT)
    graph = model.graph
    generator = np.random.default_rng(seed)
    shapes = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    weights = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    layers = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    values = {node.output[0]: he_normal(generator, shapes[node.input[0]]) for node in weights}
    read = {name for node in layers for name in node.input}
    kept = [initializer for initializer in graph.initializer if initializer.name in read]
    inputs = [value for value in graph.input if value.name in read and value.name not in shapes]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(layers)
    graph.input.extend(inputs)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    onnx.checker.check_model(model)
    return model


def he_normal(generator: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Normal weights with variance 2 / fan-in; small biases where there is one axis."""
    size = tuple(int(axis) for axis in shape)
    deviation = np.sqrt(2 / np.prod(size[1:])) if len(size) > 1 else 0.01
    return generator.normal(0, deviation, size).astype(np.float32)


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    temporary = arguments.out.with_name(f".{arguments.out.name}.{os.getpid()}")
    onnx.save_model(googlenet(arguments.seed), temporary)
    os.replace(temporary, arguments.out)


if __name__ == "__main__":
    main()
