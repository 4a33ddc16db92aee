"""The program: one JSON object, an exit code, and children that cannot take it down with them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from networks import ZOO

PROGRAM = Path(__file__).parents[2] / "benchmarks/zoo.py"
SMALL = {"light_squeezenet": "imported", "ddddocr_lstm": "refused"}
MISSING = next((entry.missing for entry in ZOO if entry.name in SMALL and entry.missing), None)


def run(*arguments: str) -> tuple[int, dict]:
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_what_became_of_each_network():
    code, printed = run("--only", *SMALL)
    assert code == 0
    assert {name: entry["status"] for name, entry in printed["networks"].items()} == SMALL
    imported, refused = printed["networks"].values()
    assert imported.keys() <= printed["figures"].keys()
    assert 0 <= imported["max_diff"] < 1e-4
    assert imported["macs"]["after"] < imported["macs"]["before"]
    assert sum(imported["merges"].values()) > 0
    assert 0 < imported["plan_seconds"] <= imported["seconds"]
    assert 100 < imported["peak_memory_mb"] < 2048
    assert "LSTM (LSTM_79)" in refused["reason"]
    assert printed["measured_on"]
    assert printed["versions"]["apache-tvm"]


def test_a_network_that_takes_too_long_is_told():
    code, printed = run("--only", "light_squeezenet", "--seconds", "0.01")
    assert code == 1
    assert printed["networks"]["light_squeezenet"]["status"] == "failed"
    assert "TimeoutExpired" in printed["networks"]["light_squeezenet"]["reason"]
