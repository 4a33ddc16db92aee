"""Two processes give what one gives, and only the first of them writes and speaks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pipeline.errors import UserError
from pipeline.retraining import Settings, read_result, retrain
from pipeline.retraining.processes import Processes, joined

SETTINGS = Settings(epochs=1.0, batch_size=24, max_drop=0, keep_all=True, evaluate_every=4)

SCRIPT = """
import json, os, sys
from pathlib import Path
from pipeline.retraining import Settings, retrain
from pipeline.retraining.processes import joined
import torch

model, data, out, settings = sys.argv[1:]
told = []
done = retrain(model, data=data, out=out, settings=Settings.model_validate_json(settings), threads=1,
               metric="top-1", show=told.append, say=print)
with joined() as processes:
    tensor = torch.tensor([float(processes.rank + 1)])
    added = processes.sum(tensor).item()
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(layer.weight, float(processes.rank + 5))
    processes.share(layer)
    shared = layer.weight[0, 0].item()
    processes.wait()
batches = sum(each.loss is not None for each in told)
facts = {"told": batches, "accuracy": done.record.accuracy, "added": added, "shared": shared}
Path(out).with_name(f"rank {os.environ['RANK']}.json").write_text(json.dumps(facts))
"""


def weights(network: Path) -> dict[str, torch.Tensor]:
    found = onnx.load(network).graph.initializer
    return {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in found}


def run_in_two(script: Path, *arguments: object) -> None:
    """Run a script under torchrun, which ends the processes it started if it is told to end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [str(each) for each in (*command, *arguments)], stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        try:
            _, said = child.communicate(timeout=120)
        finally:
            child.terminate()
    assert child.returncode == 0, said[-3000:]


def test_two_processes_are_one(files, tmp_path):
    """The batches hold 12 samples each, and 24 in one process."""
    (tmp_path / "train.py").write_text(SCRIPT)
    arguments = [files.inception, files.data, tmp_path / "zwei", SETTINGS.model_dump_json()]
    run_in_two(tmp_path / "train.py", *arguments)
    alone = retrain(
        files.inception, data=files.data, out=tmp_path / "eins", settings=SETTINGS, metric="top-1", threads=1
    )
    together = read_result(tmp_path / "zwei")
    one, two = weights(alone.network), weights(together.network)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-4)
    for step, other in zip(alone.record.steps, together.record.steps, strict=True):
        assert step.model_copy(update={"seconds": 0}) == other.model_copy(update={"seconds": 0})
    assert sorted(each.name for each in together.directory.iterdir()) == ["network.onnx", "retraining.json"]
    first, second = (json.loads((tmp_path / f"rank {rank}.json").read_text()) for rank in range(2))
    assert first.pop("told") == sum(step.iterations for step in alone.record.steps) > 0
    assert second.pop("told") == 0
    assert first == second == {"accuracy": alone.record.accuracy, "added": 3, "shared": 5}


def test_one_process_does_nothing_else():
    with joined() as processes:
        assert processes == Processes(0, 1)
        assert processes.is_first
        layer = nn.Linear(2, 2)
        assert processes.averaged(layer) is layer
        values = torch.ones(3)
        assert processes.sum(values) is values
        processes.share(layer)
        processes.wait()


def test_half_of_what_torchrun_sets(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UserError, match=r"WORLD_SIZE is 2, but: .* start all processes with torchrun"),
        joined(),
    ):
        pass
