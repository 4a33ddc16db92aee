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
from tuning.records.checking import check_best
from tuning.records.join import Joined, join
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


def test_records_are_made_joined_checked_and_compiled_in_such_folders(
    awkward: Path, net, host: targets.TargetInfo, fill
) -> None:
    base, source = awkward / "datenbänke", awkward / "andere datenbänke"
    records = fill(source, net.module, 1)
    assert join(base, [source], host.target()) == Joined(added=len(records))
    builder = LocalBuilder(host, workers=1)
    with (
        tuning.LocalSession(host) as session,
        db.writable(base, host.target()) as (database, cleaning),
        Comparer(session.rpc_config) as comparer,
    ):
        assert (len(database), cleaning) == (len(records), tuning.Cleaning())
        known = verdicts.read(db.directory(base, host.target()))
        workload = database.get_all_tuning_records()[0].workload
        checked = check_best(workload, database, known, builder, comparer)
    builder.close()
    assert checked.verdict.judgement is Judgement.RIGHT
    compiled = tuning.compile_module(net.module, host, base)
    assert awkward in compiled.library.parents
    assert compiled.records_applied == compiled.functions_total
    exported = awkward / "netz ü.so"
    compiled.export(exported)
    machine = relax.VirtualMachine(tvm.runtime.load_module(os.fspath(exported)), tvm.cpu())
    weights = [tvm.runtime.tensor(value) for value in compiled.params.values()]
    output = machine["main"](tvm.runtime.tensor(net.image()), *weights).numpy()
    np.testing.assert_allclose(output, net.in_torch(net.image()), rtol=1e-5, atol=1e-6)


def test_a_network_is_tuned_in_such_folders(awkward: Path, host: targets.TargetInfo) -> None:
    image = relax.Var("image", relax.TensorType((1, 8, 16, 16), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.op.nn.relu(image)))
        builder.emit_func_output(result)
    base = awkward / "datenbänke"
    with tuning.LocalSession(host) as session:
        tuned = tuning.tune(builder.get(), host, session, base, trials=1)
    assert tuned.trials_measured == 1
    assert tuned.failures == {}
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (1, tuning.Cleaning())
