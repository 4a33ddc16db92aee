"""The README.txt of a bundle: how to use it, and what it is not good for."""

from pipeline.bundle.manifest import Manifest
from pipeline.report.model import Tensor
from pipeline.report.tables import printable


def readme(manifest: Manifest) -> str:
    """Return the text of README.txt."""
    target = manifest.target
    lines = [
        printable(
            f"{manifest.name}, compiled by deeprebirth for {target.name} ({target.triple}, {target.cpu})"
        ),
        "",
        *(printable(f"NOTICE: {notice}") for notice in manifest.notices),
        *([""] if manifest.notices else []),
        "Try it (needs Python, numpy and the TVM runtime of the version below, nothing else):",
        "",
        "    python load_and_run.py",
        "",
        "It loads the library and the weights, runs the golden input and compares with the golden output.",
        "To use the network, call main(*inputs, *weights) as it does there:",
        "",
        *(_tensor("input", each) for each in manifest.inputs),
        *(_tensor("output", each) for each in manifest.outputs),
        f"    weights    {len(manifest.weights)} arrays of weights.params, in the order of their names",
        "",
        f"Set TVM_NUM_THREADS={target.threads} before the first run: TVM takes half the cores otherwise.",
        "manifest.json describes every file and holds its digest.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    ]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return printable(f"    {kind:<10} {tensor.name}: {shape} {tensor.dtype}")
