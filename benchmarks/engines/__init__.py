"""Engines that run networks, each in a process of its own: our library, and those it is compared with."""

PEERS = ("onnxruntime", "openvino", "ncnn", "mnn", "executorch", "torch_compile")
"""The modules of this package that run an ONNX file; `deeprebirth` runs a compiled network."""

INSTALL = "pip install openvino ncnn pnnx MNN executorch"
