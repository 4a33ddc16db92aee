import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tvm import relax

from pipeline.bundle import Bundle, BundleNotVerified, verify_bundle
from pipeline.errors import UserError
from pipeline.files import fresh_directory
from targets import find
from tuning import compile_module


def test_a_fresh_process_computes_the_golden_outputs(write: Callable[..., Bundle], tmp_path: Path):
    place = tmp_path / "Bündel 1"
    with fresh_directory(place) as temporary:
        write(temporary)
        assert 0 <= verify_bundle(temporary) < 1e-5
    assert 0 <= verify_bundle(place, tolerance=1e-4) < 1e-5


def test_a_library_of_our_compiler(write: Callable[..., Bundle], arrays: dict, tmp_path: Path):
    weights, data = arrays["weights"], arrays["golden_inputs"]["data"]
    kernel, bias = (relax.const(each) for each in weights.values())
    builder = relax.BlockBuilder()
    image = relax.Var("data", relax.TensorType(data.shape, "float32"))
    with builder.function("main", [image]):
        with builder.dataflow():
            convolved = builder.emit(relax.op.nn.conv2d(image, kernel, padding=1))
            first = builder.emit(relax.op.nn.relu(relax.op.add(convolved, bias)))
            result = builder.emit_output(relax.op.nn.max_pool2d(first, pool_size=2, strides=2))
        builder.emit_func_output(result)
    compiled = compile_module(builder.get(), find("host"), None)

    computed = torch.nn.functional.max_pool2d(torch.from_numpy(arrays["golden_outputs"]["relu"]), 2)
    write(
        tmp_path / "bundle",
        library=compiled.library,
        weights=compiled.weights,
        golden_outputs={"pool": computed.numpy()},
    )
    assert verify_bundle(tmp_path / "bundle") < 1e-5


def test_a_difference_stops_the_hand_over(write: Callable[..., Bundle], arrays: dict, tmp_path: Path):
    wrong = arrays["golden_outputs"] | {"conv": arrays["golden_outputs"]["conv"] + np.float32(0.25)}
    with pytest.raises(
        BundleNotVerified, match=r"differs from its golden output by 0\.25, more than 0\.0001"
    ):
        write_and_verify(write, tmp_path / "bundle", golden_outputs=wrong)
    assert list(tmp_path.iterdir()) == []


def write_and_verify(write: Callable[..., Bundle], place: Path, **changes: object):
    with fresh_directory(place) as temporary:
        write(temporary, **changes)
        verify_bundle(temporary)


def test_not_a_number_is_a_difference(
    write: Callable[..., Bundle], save_weights: Callable[..., Path], arrays: dict, tmp_path: Path
):
    weights = arrays["weights"] | {"weight_00001": np.full((1, 4, 1, 1), np.nan, "float32")}
    write(tmp_path / "bundle", weights=save_weights(weights))
    with pytest.raises(BundleNotVerified, match="differs from its golden output by inf"):
        verify_bundle(tmp_path / "bundle", tolerance=1e9)


def test_a_library_that_cannot_be_loaded(write: Callable[..., Bundle], tmp_path: Path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF and nothing more")
    write(tmp_path / "bundle", library=broken)
    with pytest.raises(BundleNotVerified, match="could not be run") as error:
        verify_bundle(tmp_path / "bundle")
    assert "\n" not in str(error.value)


def test_a_run_that_takes_too_long(write: Callable[..., Bundle], tmp_path: Path):
    write(tmp_path / "bundle")
    with pytest.raises(BundleNotVerified, match=r"did not finish within 0\.01 s"):
        verify_bundle(tmp_path / "bundle", timeout_s=0.01)


def test_a_damaged_bundle_is_not_run(write: Callable[..., Bundle], tmp_path: Path):
    bundle = write(tmp_path / "bundle")
    (bundle.directory / "load_and_run.py").write_text("raise SystemExit('was run')")
    with pytest.raises(UserError, match=r"load_and_run\.py"):
        verify_bundle(bundle.directory)


def test_the_example_runs_anywhere_with_the_runtime_alone(write: Callable[..., Bundle], tmp_path: Path):
    write(tmp_path / "bundle")
    moved = shutil.copytree(tmp_path / "bundle", tmp_path / "copied elsewhere")
    watched = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[1], run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "import tvm\n"
        "print(code, tvm.runtime.num_threads(), 'tvm.relax' in sys.modules, 'pipeline' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TVM_")}
    run = subprocess.run(
        [sys.executable, "-c", watched, str(moved / "load_and_run.py")],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "0 2 False False"
