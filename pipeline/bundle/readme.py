"""The README.txt of a bundle: how to use it, and what it is not good for."""

from collections.abc import Iterator

from pipeline.bundle.manifest import Manifest, MeasuredAccuracy
from pipeline.data import Preprocessing
from pipeline.report.model import Target, Tensor
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
        f"Try it (needs Python, numpy and the TVM runtime of the version below, {_besides(target)}):",
        "",
        "    python load_and_run.py",
        "",
        "It loads the library and the weights, runs the golden input and compares with the golden output.",
        "The same without Python, in C++; DIR holds include/ and lib/ of TVM's runtime for the device:",
        "",
        "    cmake -S . -B ../build -DTVM_HOME=DIR && cmake --build ../build && ../build/run .",
        "",
        *_on_gpu(target),
        "To use the network, call main(*inputs, *weights) as it does there:",
        "",
        *(_tensor("input", each) for each in manifest.inputs),
        *(_tensor("output", each) for each in manifest.outputs),
        f"    weights    {len(manifest.weights)} arrays of weights.params, in the order of their names",
        *_int8(manifest),
        "",
        *_preparation(manifest.preprocessing),
        *_accuracy(manifest.accuracy),
        "",
        *_threads(target),
        "manifest.json describes every file and holds its digest.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    ]
    return "\n".join(lines) + "\n"


def _besides(target: Target) -> str:
    return "nothing else" if target.gpu is None else "and OpenCL's, see below"


def _on_gpu(target: Target) -> Iterator[str]:
    """What a network on a GPU needs."""
    gpu = target.gpu
    if gpu is None:
        return
    yield "The network runs on the GPU through OpenCL. TVM's runtime needs libtvm_runtime_opencl.so for that:"
    yield "Python has it where deeprebirth is installed; for C++ it lies in the package's folder"
    yield "targets/runtime/opencl, and for a device in lib/ of the folder that `deeprebirth runtime` makes."
    yield "The device needs a driver with OpenCL 1.2, on which a kernel may have work groups of"
    yield printable(
        f"{gpu.max_threads} work items and {gpu.local_bytes} bytes of local memory: {gpu.description}."
    )
    yield "main takes and returns tensors on the device, as load_and_run.py and run.cpp show."
    yield ""


def _threads(target: Target) -> Iterator[str]:
    if target.gpu is None:
        number = f"TVM_NUM_THREADS={target.threads}"
        yield f"Set {number} before the first run: TVM takes half the cores otherwise."


def _tensor(kind: str, tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return printable(f"    {kind:<10} {tensor.name}: {shape} {tensor.dtype}")


def _int8(manifest: Manifest) -> Iterator[str]:
    count = len(manifest.int8_weights)
    if count:
        yield f"               {count} of them are stored as int8 numbers and scales, multiplied once when"
        yield "               loading; main takes the products"


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
