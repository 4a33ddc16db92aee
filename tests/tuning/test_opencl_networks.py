"""Whole networks through the targets of phones' GPUs, untuned, on PoCL: numbers as onnxruntime has them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from networks import ZOO

import targets
import tuning
from pipeline.importer import load_network
from relay_passes import inline_composites, strip_softmax
from targets.runtime.opencl import is_built, listing

TOLERANCE = 1e-4
PHONES = ("mali-g76+host", "adreno-640+host")
NETWORKS = ("light_squeezenet", "light_inception_v1")

# What a user writes, in a process that knows nothing of us.
LOADER = """
import sys
import numpy as np
import tvm
from tvm import relax
library, weights, image, result = sys.argv[1:]
device = tvm.opencl(0)
machine = relax.VirtualMachine(tvm.runtime.load_module(library), device)
weights = tvm.runtime.load_param_dict(open(weights, "rb").read())
image = tvm.runtime.tensor(np.load(image), device)
weights = [tvm.runtime.tensor(weights[name].numpy(), device) for name in sorted(weights)]
np.save(result, machine["main"](image, *weights).numpy())
"""


@dataclass(frozen=True)
class Case:
    """A network without its softmax, what onnxruntime gives for an image, and the compiled network."""

    image: np.ndarray
    expected: np.ndarray
    compiled: tuning.Compiled

    def check(self, output: np.ndarray) -> None:
        np.testing.assert_allclose(output, self.expected, rtol=0, atol=TOLERANCE * np.ptp(self.expected))


@pytest.fixture(scope="module", params=[(name, phone) for name in NETWORKS for phone in PHONES], ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if not is_built():
        pytest.skip("needs the package opencl-c-headers when deeprebirth is installed")
    try:
        listing()
    except targets.TargetError as error:
        pytest.skip(f"no OpenCL here: {error}")
    name, phone = request.param
    entry = next(entry for entry in ZOO if entry.name == name)
    network = load_network(entry.write(tmp_path_factory.mktemp("zoo")))
    module = inline_composites(strip_softmax(network.module))
    (image,), (expected,) = network.golden.inputs.values(), network.golden.logits.values()
    return Case(image, expected, tuning.compile_module(module, targets.find(phone), None))


def test_it_runs_in_a_process_of_its_own(case: Case, tmp_path: Path) -> None:
    image, result = tmp_path / "image.npy", tmp_path / "result.npy"
    np.save(image, case.image)
    arguments = [str(path) for path in (case.compiled.library, case.compiled.weights, image, result)]
    subprocess.run([sys.executable, "-c", LOADER, *arguments], check=True, timeout=300)
    case.check(np.load(result))


def test_it_runs_over_rpc(case: Case, session: tuning.LocalSession) -> None:
    library = tuning.Library(case.compiled.library, case.compiled.weights)
    (output,) = tuning.run_remote(session, library, [case.image], seconds=300, device_type="opencl")
    case.check(output)


def test_each_of_its_functions_launches_kernels(case: Case) -> None:
    assert all(function.kernels >= 1 for function in case.compiled.functions)
    assert case.compiled.launches >= len(case.compiled.functions) > 20
    assert case.compiled.records_applied == 0
