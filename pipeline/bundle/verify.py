"""Load a bundle again, run it and compare, before anybody is given it.

One for this machine runs in a fresh process, one for another machine on a device of that kind.
"""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tvm

from pipeline.bundle.bundle import EXAMPLE, WEIGHTS, Bundle, read_bundle
from pipeline.verification import NotVerified
from targets.runtime.opencl import DEVICE_VARIABLE

TIMEOUT_S = 300

Run = Callable[[Path, Path, list[np.ndarray]], list[np.ndarray]]
"""Takes a library, its weights and inputs; returns outputs."""


class BundleNotVerified(NotVerified):
    """A bundle does not compute its golden output, so it is not handed over."""


def verify_bundle(
    directory: Path,
    tolerance: float | None = None,
    timeout_s: float = TIMEOUT_S,
    opencl_device: str | None = None,
) -> float:
    """Run a bundle's own example in a fresh process on this machine.

    Parameters
    ----------
    directory : Path
        The bundle.
    tolerance : float | None
        Bound on the largest difference from the golden output; the manifest's own when None.
    timeout_s : float
        Bound on the whole run in seconds.
    opencl_device : str | None
        The OpenCL device to run on, where there are several.

    Returns
    -------
    float
        The largest difference, element by element.

    Raises
    ------
    UserError
        The bundle is damaged.
    BundleNotVerified
        Its outputs differ, or it could not be run.
    """
    bundle = read_bundle(directory)
    tolerance = bundle.manifest.tolerance if tolerance is None else tolerance
    return _within(tolerance, _run(bundle.directory, timeout_s, opencl_device), directory)


def verify_bundle_elsewhere(directory: Path, run: Run) -> float:
    """Run a bundle's library on another machine.

    Parameters
    ----------
    directory : Path
        The bundle.
    run : Run
        Runs the library and the weights there on inputs, and returns the outputs.

    Returns
    -------
    float
        The largest difference, element by element.

    Raises
    ------
    UserError
        The bundle is damaged.
    BundleNotVerified
        Its outputs differ.
    """
    bundle = read_bundle(directory)
    with _weights_to_run(bundle) as weights:
        outputs = run(bundle.library, weights, list(bundle.golden_inputs().values()))
    pairs = zip(outputs, bundle.golden_outputs().values(), strict=True)
    differences = [float(np.abs(ours - golden).max(initial=0)) for ours, golden in pairs]
    difference = math.inf if any(map(math.isnan, differences)) else max(differences)
    return _within(bundle.manifest.tolerance, difference, directory)


@contextmanager
def _weights_to_run(bundle: Bundle) -> Iterator[Path]:
    """A file of the weights as `main` takes them."""
    if not bundle.manifest.int8_weights:
        yield bundle.weights_file
        return
    with TemporaryDirectory(prefix="deeprebirth-weights-") as folder:
        path = Path(folder) / WEIGHTS
        path.write_bytes(tvm.runtime.save_param_dict(bundle.weights()))
        yield path


def _within(tolerance: float, difference: float, directory: Path) -> float:
    if not difference <= tolerance:
        raise BundleNotVerified(
            f"the bundle {directory} differs from its golden output by {difference:.3g}, "
            f"more than {tolerance:.3g}: it is not handed over"
        )
    return difference


def _run(directory: Path, timeout_s: float, opencl_device: str | None) -> float:
    command = [sys.executable, EXAMPLE]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
    if opencl_device is not None:
        environment |= {DEVICE_VARIABLE: opencl_device}
    try:
        run = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleNotVerified(f"the bundle {directory} did not finish within {timeout_s:g} s") from error
    if run.returncode < 0:
        ended_by = signal.Signals(-run.returncode).name
        raise BundleNotVerified(f"the bundle {directory} ended its process with {ended_by}")
    difference = _difference(run.stdout)
    if difference is None:
        last = (run.stderr.strip().splitlines() or ["no output"])[-1]
        raise BundleNotVerified(f"the bundle {directory} could not be run: {last}")
    return difference


def _difference(output: str) -> float | None:
    """The number at the end of the example's last line; infinity for one that is not a number."""
    last = output.rstrip().rpartition(":")[2]
    try:
        value = float(last)
    except ValueError:
        return None
    return math.inf if math.isnan(value) else value
