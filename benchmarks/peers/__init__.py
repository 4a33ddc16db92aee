"""Other engines for networks, each run in a process of its own beside ours."""

ENGINES = ("onnxruntime", "openvino", "ncnn", "mnn", "executorch", "torch_compile")
"""The modules of this package that run an ONNX file; `deeprebirth` runs our bundle."""
