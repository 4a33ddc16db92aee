"""T13: database and working folders with spaces and non-ASCII letters (onnx/onnx#5761).

The paths of models and outputs are covered by the tests of the importer, the bundle and the command line.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

import targets
import tuning
from tuning.building.local import LocalBuilder
from tuning.measuring.compare import Comparer
from tuning.records import database as db
from tuning.records import verdicts
from tuning.records.checking import Checked, check_best
from tuning.records.join import join
from tuning.records.verdicts import Judgement

NAME = "Größe & Maß - 深い 'ordner' $HOME"


@pytest.fixture
def awkward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of such a name; whatever is built or measured works in it, in child processes too."""
    folder = tmp_path / NAME
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert Path(tempfile.gettempdir()) == folder
    return folder


def test_a_network_is_tuned_joined_checked_and_compiled_in_such_folders(
    awkward: Path, host: targets.TargetInfo
) -> None:
    image = relax.Var("image", relax.TensorType((1, 8, 16, 16), "float32"))
    network = relax.BlockBuilder()
    with network.function("main", [image], attrs={"num_input": 1}):
        with network.dataflow():
            result = network.emit_output(network.emit(relax.op.nn.relu(image)))
        network.emit_func_output(result)
    base, source = awkward / "datenbänke", awkward / "andere datenbänke"
    with tuning.LocalSession(host) as session:
        tuned = tuning.tune(network.get(), host, session, source, tuning.Budget(trials=1))
        assert (tuned.trials_measured, tuned.failures) == (1, {})
        assert join(base, [source], host.target()).added == 1
        checked = check(base, host, session)
    assert checked.verdict.judgement is Judgement.RIGHT
    compiled = tuning.compile_module(network.get(), host, base)
    assert awkward in compiled.library.parents
    assert compiled.records_applied == compiled.functions_total == 1
    exported = awkward / "netz ü.so"
    compiled.export(exported)
    machine = relax.VirtualMachine(tvm.runtime.load_module(os.fspath(exported)), tvm.cpu())
    values = np.random.default_rng(0).standard_normal((1, 8, 16, 16)).astype("float32")
    output = machine["main"](tvm.runtime.tensor(values)).numpy()
    np.testing.assert_array_equal(output, np.maximum(values, 0))


def check(base: Path, host: targets.TargetInfo, session: tuning.LocalSession) -> Checked:
    """Compare the only record with the untuned function."""
    builder = LocalBuilder(host, workers=1)
    try:
        with (
            db.writable(base, host.target()) as (database, cleaning),
            Comparer(session.rpc_config) as comparer,
        ):
            assert (len(database), cleaning) == (1, tuning.Cleaning())
            known = verdicts.read(db.directory(base, host.target()))
            workload = database.get_all_tuning_records()[0].workload
            return check_best(workload, database, known, builder, comparer)
    finally:
        builder.close()
