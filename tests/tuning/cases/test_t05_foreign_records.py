"""T5: records of another target in the directory are ignored and counted (apache/tvm#15549)."""

import json
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

import targets
import tuning
from tuning.records import database as db
from tuning.records import lines

BOARD = {"kind": "llvm", "mcpu": "cortex-a72", "mtriple": "aarch64-linux-gnu", "num-cores": 4}


def test_records_of_another_target_are_ignored_and_counted(
    tmp_path: Path, net, host: targets.TargetInfo, fill
) -> None:
    fill(tmp_path, net.module, 2)
    path = db.directory(tmp_path, host.target()) / db.RECORDS
    own = lines.read(path)
    foreign = [json.loads(line) for line in own]
    for record in foreign:
        record[1][1], record[1][2] = [1e-9], BOARD
    lines.write(path, [*map(json.dumps, foreign), *own])

    compiled = tuning.compile_module(net.module, host, tmp_path)
    assert compiled.cleaning == tuning.Cleaning(foreign=len(own))
    assert compiled.records_applied == compiled.functions_total

    with db.writable(tmp_path, host.target()) as (database, cleaning):
        assert (len(database), cleaning.foreign) == (len(own), len(own))
        assert all(str(each.target) == str(host.target()) for each in database.get_all_tuning_records())


def test_with_records_of_another_target_only_nothing_is_applied_and_the_network_is_right(
    tmp_path: Path, net, host: targets.TargetInfo, fill
) -> None:
    fill(tmp_path, net.module, 1)
    path = db.directory(tmp_path, host.target()) / db.RECORDS
    foreign = [json.loads(line) for line in lines.read(path)]
    for record in foreign:
        record[1][2] = BOARD
    lines.write(path, map(json.dumps, foreign))

    compiled = tuning.compile_module(net.module, host, tmp_path)
    assert compiled.records_applied == 0
    assert compiled.cleaning == tuning.Cleaning(foreign=len(foreign))
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    weights = [tvm.runtime.tensor(value) for value in compiled.params.values()]
    output = machine["main"](tvm.runtime.tensor(net.image()), *weights).numpy()
    np.testing.assert_allclose(output, net.in_torch(net.image()), rtol=1e-5, atol=1e-6)
