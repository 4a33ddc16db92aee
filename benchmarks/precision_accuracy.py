"""What float16 and int8 weights cost: `python benchmarks/precision_accuracy.py [--samples N]` prints JSON.

The trained network of `examples/` on Fashion-MNIST's test images: in float32; with float16 layers in torch,
each of which sums up in float32 and rounds once; with float16 layers compiled for this machine, where LLVM
rounds every addition to float16, in software if it has to, as a device with such arithmetic does; and with
int8 weights in torch, computed in float32 and in float16. `difference` is the mean over the images of the
largest difference of a logit, relative to the largest logit.

`stored` has the bytes of the weights as a bundle stores them, and once they are multiplied. `sums` has the
error of one long float16 sum relative to its size, summed up whole and in parts of at most 1024 terms that
are added up in float32 (`relay_passes/shorten_sums.py`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

import targets
import tuning
from pipeline import load_network
from pipeline.bundle import pack
from pipeline.data import Source, open_data
from pipeline.precision import FLOAT16, FLOAT32, INT8, Form, convert
from pipeline.precision.tolerance import relative_tolerance
from pipeline.twin import evaluate
from relay_passes import inline_composites, strip_softmax
from relay_passes.shorten_sums import LONGEST

NETWORK = Path(__file__).parents[1] / "examples" / "fashion_googlenet.onnx"
DATA = Path("/usr/share/datasets/fashion-mnist")
TERMS = (576, 1728, 4608)
SUMS = 4096


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1000, help="test images (default: 1000)")
    samples = parser.parse_args().samples
    network = load_network(NETWORK)
    module = strip_softmax(network.module)
    golden = [list(network.golden.inputs.values())]
    converted = convert(module, golden)
    rounded = {dtype: convert(module, golden, Form(dtype, INT8)).module for dtype in (FLOAT32, FLOAT16)}
    images, labels = _images(open_data(DATA, None, network).validation, samples)
    scores = {
        "float32": _in_torch(module, images),
        "float16_torch": _in_torch(converted.module, images),
        "float16_compiled": _compiled(converted.module, images),
        **{f"int8_{dtype}": _in_torch(each, images) for dtype, each in rounded.items()},
    }
    accuracy = {name: 100 * float((found.argmax(1) == labels).mean()) for name, found in scores.items()}
    result = {
        "network": NETWORK.stem,
        "samples": samples,
        "kept_float32": [kept.layer for kept in converted.kept],
        "top_1": accuracy,
        "difference": {name: _difference(found, scores["float32"]) for name, found in scores.items()},
        "compiled_against_torch": _largest(scores["float16_compiled"], scores["float16_torch"]),
        "tolerance": relative_tolerance(converted.module),
        "stored": {f"int8_{dtype}": _stored(each) for dtype, each in rounded.items()},
        "sums": [{"terms": terms, **_error_of_sums(terms)} for terms in TERMS],
    }
    print(json.dumps(result, indent=2))


def _images(source: Source, samples: int) -> tuple[np.ndarray, np.ndarray]:
    batch = source.fetch(list(range(samples)), None)
    return batch.inputs[0].numpy(), batch.labels.numpy()


def _in_torch(module: tvm.IRModule, images: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [evaluate(module, [part])[0] for part in np.array_split(images, len(images) // 50 + 1)]
    )


def _compiled(module: tvm.IRModule, images: np.ndarray) -> np.ndarray:
    made = tuning.compile_module(inline_composites(module), targets.find("host"), None)
    run = relax.VirtualMachine(made.executable, tvm.cpu())["main"]
    weights = [tvm.runtime.tensor(made.params[name]) for name in sorted(made.params)]
    return np.concatenate([run(tvm.runtime.tensor(image[None]), *weights).numpy() for image in images])


def _stored(module: tvm.IRModule) -> dict[str, int]:
    weights = tuning.compile_module(inline_composites(module), targets.find("host"), None).params
    sizes = {"multiplied": weights, "int8": pack(weights)}
    return {name: sum(each.nbytes for each in arrays.values()) for name, arrays in sizes.items()}


def _relative(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.abs(found - wanted).max(1) / np.abs(wanted).max(1)


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(_relative(found, wanted).mean())


def _largest(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(_relative(found, wanted).max())


def _error_of_sums(terms: int) -> dict[str, float]:
    """The spread of the error, relative to that of the sums, of inputs behind a ReLU."""
    generator = np.random.default_rng(0)
    inputs = np.maximum(generator.standard_normal((terms, SUMS)), 0).astype("float16")
    products = inputs.astype("float32") * generator.standard_normal((terms, 1)).astype("float16")
    exact = products.sum(0, dtype="float64")
    parts = np.array_split(products, -(-terms // LONGEST))
    found = {"whole": _in_float16(products), "in_parts": sum(_in_float16(part) for part in parts)}
    return {name: float((each - exact).std() / exact.std()) for name, each in found.items()}


def _in_float16(products: np.ndarray) -> np.ndarray:
    """The sum of the products, rounded to float16 after each multiply-add."""
    total = np.zeros(products.shape[1], "float16")
    for each in products:
        total = (total + each).astype("float16")
    return total.astype("float32")


if __name__ == "__main__":
    main()
