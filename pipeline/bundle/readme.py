"""The README.txt of a bundle: how to use it, and what it is not good for."""

from collections.abc import Iterator

from pipeline.bundle.manifest import Manifest, MeasuredAccuracy
from pipeline.data import Preprocessing
from pipeline.report.model import Tensor
from pipeline.report.tables import counted, metric_value, printable

NOT_KNOWN = "How the network's inputs are made is not known here: prepare them as in its training."
ORDER = {"RGB": "red, green, blue", "BGR": "blue, green, red", "L": "grey"}


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
        "The same without Python, in C++; DIR holds include/ and lib/ of TVM's runtime for the device:",
        "",
        "    cmake -S . -B ../build -DTVM_HOME=DIR && cmake --build ../build && ../build/run .",
        "",
        "To use the network, call main(*inputs, *weights) as it does there:",
        "",
        *(_tensor("input", each) for each in manifest.inputs),
        *(_tensor("output", each) for each in manifest.outputs),
        f"    weights    {len(manifest.weights)} arrays of weights.params, in the order of their names",
        "",
        *_preparation(manifest.preprocessing),
        *_accuracy(manifest.accuracy),
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


def _preparation(preprocessing: Preprocessing | None) -> Iterator[str]:
    if preprocessing is None:
        yield NOT_KNOWN
        return
    height, width = preprocessing.size
    interpolation = preprocessing.interpolation
    yield "An image becomes an input in this way (manifest.json has the same as numbers):"
    yield ""
    if preprocessing.resize is None:
        yield f"    1. Resize it to {height} rows of {width} pixels, {interpolation}."
    else:
        yield (
            f"    1. Resize its shorter side to {preprocessing.resize} pixels, {interpolation}, "
            f"then crop the middle: {height} rows of {width} pixels."
        )
    yield f"    2. Order the channels: {ORDER[preprocessing.channels]}; each is a plane of its own (NCHW)."
    yield (
        f"    3. value = (pixel * {preprocessing.scale:.9g} - mean) / std, "
        f"with mean {_numbers(preprocessing.mean)} and std {_numbers(preprocessing.std)}."
    )
    yield "       An image's pixels run from 0 to 255; an array's are what it holds."


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)


def _accuracy(accuracy: MeasuredAccuracy | None) -> Iterator[str]:
    if accuracy is not None:
        yield ""
        yield printable(
            f"Accuracy before compiling: {accuracy.metric} {metric_value(accuracy.value)} "
            f"on {counted(accuracy.data, 'validation')}."
        )
