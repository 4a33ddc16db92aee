"""Engines that run networks, each in a process of its own: our library, and those it is compared with.

Each module has `VERSION` and a class `Loaded`, made from what it loads and a number of threads. Called with
the inputs it runs once and returns the outputs.
"""

import numpy as np

Arrays = list[np.ndarray]

PEERS = ("onnxruntime", "openvino", "ncnn", "mnn", "executorch", "torch_compile")
"""The modules of this package that run an ONNX file; `deeprebirth` runs a compiled network."""

INSTALL = "pip install openvino ncnn pnnx MNN executorch"
