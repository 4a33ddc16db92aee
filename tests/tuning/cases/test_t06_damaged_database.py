"""T6: a blank line, `{}`, a cut last line, NaN, a BOM: the good records are used, the bad ones set aside.

Each of these ends the process or makes the whole database unreadable when TVM sees it (apache/tvm#16288).
"""

from pathlib import Path

import pytest

import targets
import tuning
from tuning.records import database as db
from tuning.records import lines


@pytest.fixture
def damaged(tmp_path: Path, net, host: targets.TargetInfo, fill) -> Path:
    """A database with all of that in both of its files, and in the verdicts."""
    fill(tmp_path, net.module, 2)
    folder = db.directory(tmp_path, host.target())
    records = lines.read(folder / db.RECORDS)
    broken = ["", "{}", "null", records[0].replace("0.00", "NaN", 1), *records, records[-1][:300]]
    (folder / db.RECORDS).write_text("\ufeff" + "\n".join(broken), encoding="utf-8")
    workloads = lines.read(folder / db.WORKLOADS)
    text = "\ufeff" + "\n".join(["", "{}", *workloads, workloads[-1][:300]])
    (folder / db.WORKLOADS).write_text(text, encoding="utf-8")
    (folder / "verdicts.json").write_text('{}\n{"workload": "12', encoding="utf-8")
    return folder


BAD = 5 + 3 + 2


def test_the_good_records_are_compiled_and_the_bad_ones_counted(
    damaged: Path, net, host: targets.TargetInfo
) -> None:
    before = {path.name: path.read_bytes() for path in damaged.iterdir()}
    compiled = tuning.compile_module(net.module, host, damaged.parent)
    assert compiled.records_applied == compiled.functions_total > 3
    assert compiled.cleaning == tuning.Cleaning(rejected=BAD)
    assert {path.name: path.read_bytes() for path in damaged.iterdir()} == before


def test_tuning_sets_the_bad_lines_aside_once(damaged: Path, host: targets.TargetInfo) -> None:
    held = len([line for line in lines.read(damaged / db.RECORDS) if len(line) > 300])
    with db.writable(damaged.parent, host.target()) as (database, cleaning):
        assert cleaning == tuning.Cleaning(rejected=BAD)
        assert len(database) == held - 1
    with db.writable(damaged.parent, host.target()) as (database, cleaning):
        assert cleaning == tuning.Cleaning()
        assert len(database) == held - 1
    aside = [line for path in sorted(damaged.glob("*.rejected")) for line in lines.read(path)]
    assert len(aside) == BAD
