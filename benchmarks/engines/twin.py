"""The torch program that some engines start from."""

from pathlib import Path

import torch

import pipeline
from pipeline.twin import Twin


def program_of(model: Path) -> torch.export.ExportedProgram:
    """Return an ONNX file's network as torch exports it."""
    network = pipeline.load_network(model)
    examples = tuple(torch.from_numpy(each) for each in network.golden.inputs.values())
    twin = Twin(network.module).eval().requires_grad_(False)
    return torch.export.export(twin, examples)
