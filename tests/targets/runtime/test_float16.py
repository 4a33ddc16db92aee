"""`deploy --dtype float16` on the emulated board with a Cortex-A76, and its refusal for a Cortex-A72."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import Tuning, deploy
from pipeline.bundle import read_bundle
from pipeline.errors import UserError
from targets.runtime import Packed
from tuning import RpcConfig
from tuning.devices import tracker

QEMU = ("qemu-aarch64", "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu")
WAIT_SECONDS = 120.0
TRIALS = 8


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(576, 5), nn.Softmax(1)).eval()


@pytest.fixture(scope="module")
def newer_board(
    packed: tuple[Path, Packed], a_tracker: RpcConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RpcConfig]:
    """The same folder on a core that computes in float16."""
    config = RpcConfig(a_tracker.host, a_tracker.port, "a76")
    server = [str(packed[0] / "bin/deeprebirth-server"), "--tracker", f"{config.host}:{config.port}"]
    environment = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("a76"))}
    with subprocess.Popen(
        [*QEMU, *server, "--key", config.key, "--threads", "2"], env=environment
    ) as process:
        try:
            tracker.wait_for_device(config, WAIT_SECONDS)
            yield config
        finally:
            process.kill()


def test_a_network_is_deployed_in_float16(newer_board: RpcConfig, network: nn.Module, tmp_path: Path) -> None:
    how = Tuning(
        trials=TRIALS,
        tracker=(newer_board.host, newer_board.port),
        key=newer_board.key,
        threads=2,
        database=tmp_path / "d",
    )
    image = torch.randn(1, 3, 8, 8)
    place = tmp_path / "out"
    report = deploy(
        network, example_inputs=image, out=place, target="cortex-a76", dtype="float16", tuning=how
    ).report

    assert report.device.emulated
    assert report.precision.original.data is None
    assert report.precision.original.after > 90
    assert report.tuning.original.untuned == report.tuning.original.wrong == ()
    bundle = read_bundle(place / "original")
    assert any("float16" in notice for notice in bundle.manifest.notices)
    assert {tensor.dtype for tensor in bundle.manifest.inputs + bundle.manifest.outputs} == {"float32"}
    sizes = {str(array.dtype): array.nbytes for array in bundle.weights().values()}
    stored = sum(array.nbytes for array in bundle.weights().values())
    assert stored < 0.51 * 4 * sum(each.numel() for each in network.parameters())
    assert "float16" in sizes
    (golden,) = bundle.golden_outputs().values()
    (given,) = bundle.golden_inputs().values()
    wanted = network(torch.from_numpy(given)).detach().numpy()
    np.testing.assert_allclose(golden, wanted, atol=2e-3)
    assert all(check.passed for check in report.verification)


def test_a_core_without_float16_is_refused_before_work_begins(
    board_target, network: nn.Module, tmp_path: Path
) -> None:
    how = Tuning(tracker=("127.0.0.1", 9), key="none", database=tmp_path / "d")
    with pytest.raises(UserError, match=r"raspberry-pi-4 \(.*\) has no float16 arithmetic: use float32"):
        deploy(
            network,
            example_inputs=torch.zeros(1, 3, 8, 8),
            out=tmp_path / "out",
            target="raspberry-pi-4",
            dtype="float16",
            tuning=how,
        )
    assert not (tmp_path / "out").exists()
