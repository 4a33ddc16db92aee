"""The OpenCL runtime behind RPC servers of ours: Python's, and the one for boards without Python."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm

import targets
import tuning
from targets.runtime import opencl, pack
from targets.runtime.compile import check_plugin
from targets.runtime.tvm_runtime import TvmRuntime
from tuning import RpcConfig
from tuning.devices import tracker

SECONDS = 120.0
LAUNCHES = 1000


def counts(remote: tvm.rpc.RPCSession) -> dict[str, int]:
    return json.loads(remote.get_function("deeprebirth.opencl.counts")())


def test_a_library_runs_behind_our_server(needs_opencl, affine, tmp_path: Path):
    path = tmp_path / "affine.so"
    affine("float32", 100).export_library(str(path))
    values = np.arange(100, dtype="float32")
    with tuning.LocalSession(targets.find("host")) as session:
        lease = tracker.request(session.rpc_config, SECONDS, 600, SECONDS)
        remote = lease.remote
        device = remote.device("opencl", 0)
        assert "PoCL" in device.compute_version
        (told,) = json.loads(remote.get_function("deeprebirth.opencl.devices")())
        assert told["name"] == device.device_name
        remote.upload(str(path))
        library = remote.load_module(path.name)
        tensor, result = (tvm.runtime.tensor(values, device) for _ in range(2))
        assert counts(remote)["buffers"] == 2
        for _ in range(LAUNCHES):
            library["main"](tensor, result)
        np.testing.assert_array_equal(result.numpy(), values * 3 + 2)
        assert library.time_evaluator("main", device, number=3)(tensor, result).mean > 0
        del tensor, result
        after = counts(remote)
        assert (after["buffers"], after["bytes"]) == (0, 0)
        assert after["launches"] >= LAUNCHES + 3


def test_serve_takes_a_device_that_is_there(needs_opencl, a_tracker: RpcConfig):
    where = f"{a_tracker.host}:{a_tracker.port}"
    serve = [sys.executable, "-c", "from pipeline.cli import main; main()", "serve", "--tracker", where]
    refused = subprocess.run(
        [*serve, "--key", "k", "--device", "mali-g0"], capture_output=True, text=True, timeout=SECONDS
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("deeprebirth: --device mali-g0: no OpenCL device is mali-g0")
    assert refused.stderr.count("\n") == 1
    name = opencl.listing().devices[0].name
    command = [*serve, "--key", "chosen", "--device", "PORTABLE"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert f"OpenCL device: {name}" in server.stderr.readline()
            config = RpcConfig(a_tracker.host, a_tracker.port, "chosen")
            tracker.wait_for_device(config, SECONDS)
            remote = tracker.request(config, SECONDS, 600, SECONDS).remote
            assert remote.device("opencl", 0).device_name == name
        finally:
            server.kill()


@pytest.fixture(scope="module")
def board_with_gpu(packed, board_target, own_runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board's folder with the plug-in, made of the libraries that were fetched for the one without."""
    made, folder = tmp_path_factory.mktemp("mein TVM"), tmp_path_factory.mktemp("Brett mit GPU")
    shutil.copytree(packed[0] / "lib", made / "lib")
    for headers in own_runtime.headers:
        shutil.copytree(headers, made / "include", dirs_exist_ok=True)
    gpu = targets.Gpu("mali-g76", "Mali-G76", "mali", 256, 32768)
    pack(replace(board_target, gpu=gpu), folder, "brett", made)
    return folder


def test_a_boards_server_has_opencl_and_says_that_its_driver_is_missing(
    board_with_gpu: Path, a_tracker: RpcConfig, start_board
):
    library = board_with_gpu / "lib" / opencl.NAME
    needed = subprocess.check_output(["aarch64-linux-gnu-readelf", "-d", library], text=True)
    assert "libtvm_runtime.so" in needed
    assert "OpenCL" not in needed
    with start_board(a_tracker, "gpu-ä", folder=board_with_gpu) as board:
        tracker.wait_for_device(board.config, SECONDS)
        remote = board.take().remote
        assert not remote.device("opencl", 0).exist
        wanted = (
            "there is no OpenCL driver here .*: install the driver of the GPU's vendor, or pocl-opencl-icd"
        )
        with pytest.raises(RuntimeError, match=wanted):
            remote.get_function("deeprebirth.opencl.devices")()
        assert counts(remote)["buffers"] == 0


def test_a_board_without_gpu_has_no_plugin(packed):
    assert not (packed[0] / "lib" / opencl.NAME).exists()


def test_the_plugin_compiles_for_32_bits(own_runtime: TvmRuntime):
    target = targets.find("cortex-a9")
    if shutil.which(target.compiler) is None:
        pytest.skip(f"needs the package {target.compiler_package}")
    check_plugin(target.require_compiler(), own_runtime)
