"""Write GoogLeNet with seeded weights: `python examples/googlenet.py OUT.onnx [--seed 0]`.

The onnx package holds the structures of nine networks (light_inception_v1 is GoogLeNet) without their
weights. They get He-normal ones, so that values keep their size from layer to layer, and classify nothing.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

STRUCTURES = Path(onnx.__file__).parent / "backend/test/data/light"
INITIALIZERS_NEED_NO_INPUT = 4
"""The version of ONNX's file format since which weights need not be listed as inputs."""

SCALES = {"BatchNormalization": (1, 4), "Mul": (1,)}
"""The inputs of an operator that its data is multiplied with or divided by."""


def googlenet(seed: int = 0) -> onnx.ModelProto:
    """Build GoogLeNet: input `data_0`, 1x3x224x224; output `prob_1`, 1x1000."""
    return seeded_network("inception_v1", seed)


def seeded_network(name: str, seed: int = 0) -> onnx.ModelProto:
    """Build a network of the onnx package with weights.

    Parameters
    ----------
    name : str
        As in `light_NAME.onnx`.
    seed : int
        The same seed gives the same weights.

    Returns
    -------
    onnx.ModelProto
        Every weight is an initializer.
    """
    model = onnx.load_model(STRUCTURES / f"light_{name}.onnx")
    model.ir_version = max(model.ir_version, INITIALIZERS_NEED_NO_INPUT)
    graph = model.graph
    given = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    made = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    layers = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    read = {name for node in layers for name in node.input}
    shapes = {
        name: value.shape for name, value in given.items() if value.dtype == np.float32 and name in read
    }
    shapes |= {node.output[0]: tuple(given[node.input[0]]) for node in made}
    kept = [each for each in graph.initializer if each.name in read and each.name not in shapes]
    inputs = [value for value in graph.input if value.name not in given]
    generator, scales = np.random.default_rng(seed), multipliers(layers)
    weights = [
        numpy_helper.from_array(random_weight(generator, shape, name in scales), name)
        for name, shape in shapes.items()
    ]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(layers)
    graph.input.extend(inputs)
    graph.initializer.extend((*kept, *weights))
    return model


def multipliers(nodes: list[onnx.NodeProto]) -> set[str]:
    """Name the weights that data is multiplied with or divided by, also through an Unsqueeze."""
    source = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Unsqueeze"}
    names = [node.input[index] for node in nodes for index in SCALES.get(node.op_type, ())]
    return {source.get(name, name) for name in names}


def random_weight(generator: np.random.Generator, shape: tuple[int, ...], is_scale: bool) -> np.ndarray:
    """Make a kernel of variance 2 / fan-in, scales around 1, or small biases."""
    if is_scale:
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    deviation = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    return generator.standard_normal(shape, np.float32) * np.float32(deviation)


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
