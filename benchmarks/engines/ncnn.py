"""ncnn in float32; pnnx converts the ONNX file."""

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
import onnx

from engines import Arrays
from engines.signature import signature

VERSION = importlib.metadata.version("ncnn")
_CONVERTER = Path(sys.executable).with_name("pnnx")
_NETWORK = "network"


class Loaded:
    """A network in ncnn.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        inputs, outputs = signature(model)
        shapes = [f"[{','.join(map(str, shape))}]f32" for shape in inputs.values()]
        self._results = len(outputs)
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        for halved in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(self._net.opt, f"use_{halved}", False)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"{_NETWORK}.onnx"
            onnx.save_model(_with_softmax_axes(_with_global_pools(onnx.load(model))), copy)
            command = [_CONVERTER, copy, "fp16=0", f"inputshape={','.join(shapes)}"]
            subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder)
            self._net.load_param(str(Path(folder) / f"{_NETWORK}.ncnn.param"))
            self._net.load_model(str(Path(folder) / f"{_NETWORK}.ncnn.bin"))

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        extractor = self._net.create_extractor()
        for number, each in enumerate(inputs):
            extractor.input(f"in{number}", ncnn.Mat(each[0]))
        found = [extractor.extract(f"out{number}") for number in range(self._results)]
        return [np.array(mat)[None] for _, mat in found]


def _with_global_pools(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make average pools over whole images global ones: of others that pad, pnnx knows none."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        each.name: [size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.value_info, *graph.output)
    }
    for node in model.graph.node:
        if node.op_type == "AveragePool" and _covers(
            node, shapes[node.input[0]][2:], shapes[node.output[0]][2:]
        ):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    return model


def _with_softmax_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write out the axis of a softmax without one: the first before version 13, pnnx takes the last."""
    version = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    for node in model.graph.node:
        if node.op_type == "Softmax" and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("axis", 1 if version < 13 else -1))
    return model


def _covers(pool: onnx.NodeProto, image: list[int], pooled: list[int]) -> bool:
    """Tell whether a pool's only window holds the whole image and no padding counts."""
    given = {each.name: onnx.helper.get_attribute_value(each) for each in pool.attribute}
    before = given.get("pads", [0] * 2 * len(image))[: len(image)]
    reach = zip(given["kernel_shape"], image, before, strict=True)
    return (
        set(pooled) == {1}
        and not given.get("count_include_pad", 0)
        and all(kernel >= size + pad for kernel, size, pad in reach)
    )
