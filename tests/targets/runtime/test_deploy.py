"""`deploy` from one end to the other on the emulated board, which it asks what it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import Tuning, deploy
from pipeline.bundle import read_bundle
from pipeline.errors import UserError
from targets import TargetError

TRIALS = 6


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5))
    return nn.Sequential(*layers).eval()


def test_a_network_is_deployed_on_a_board_that_says_what_it_is(board, network, tmp_path: Path) -> None:
    where = (board.config.host, board.config.port)
    how = Tuning(trials=TRIALS, tracker=where, key=board.config.key, database=tmp_path / "d")
    image = torch.randn(1, 3, 8, 8)
    deployment = deploy(network, example_inputs=image, out=tmp_path / "out", target="auto", tuning=how)
    report = deployment.report

    assert report.target.name == "cortex-a72"
    assert report.device.emulated
    assert "Cortex-A72" in report.device.measured_on
    assert report.speedup is None
    assert "emulated" in report.speedup_note
    assert {merge.kind for merge in report.merges} == {"fold"}
    bundle = read_bundle(tmp_path / "out" / "merged")
    (golden,) = bundle.golden_outputs().values()
    (given,) = bundle.golden_inputs().values()
    wanted = network(torch.from_numpy(given)).detach().numpy()
    np.testing.assert_allclose(golden, wanted, atol=1e-5)
    assert max(check.max_abs_diff for check in report.verification) <= 1e-4 * np.abs(golden).max()


@pytest.mark.parametrize(
    ("target", "how", "says"),
    [
        ("raspberry-pi-4", {}, "give the --tracker and --key"),
        ("raspberry-pi-4", {"cc": "no-such-compiler"}, "no-such-compiler"),
    ],
)
def test_what_cannot_be_measured_is_told_first(target, how, says, board_target, network, tmp_path) -> None:
    with pytest.raises((UserError, TargetError), match=says):
        deploy(
            network,
            example_inputs=torch.zeros(1, 3, 8, 8),
            out=tmp_path / "out",
            target=target,
            tuning=Tuning(database=tmp_path / "d", **how),
        )
    assert not (tmp_path / "out").exists()
