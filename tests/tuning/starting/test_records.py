"""Records that come with the package: written, read, pruned, and left out where they cannot be used."""

import json
import lzma
import warnings
from pathlib import Path

import pytest
import tvm
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning import starting
from tuning.records.database import MODULE_EQUALITY, trace_key
from tuning.searching.search import Search
from tuning.searching.space import replay, tune_context
from tuning.searching.transfer import Experience, Known, best_of
from tuning.starting import records as limits


def product(rows: int, columns: int) -> IRModule:
    a, b = tvm.te.placeholder((rows, 16), name="a"), tvm.te.placeholder((16, columns), name="b")
    k = tvm.te.reduce_axis((0, 16), name="k")
    c = tvm.te.compute((rows, columns), lambda i, j: tvm.te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return IRModule({"main": tvm.te.create_prim_func([a, b, c])})


@pytest.fixture(scope="module")
def known(host: targets.TargetInfo) -> list[Known]:
    """The best records of three products, the largest of which takes longest."""
    database = ms.database.MemoryDatabase(MODULE_EQUALITY)
    for rows in (4, 8, 32):
        module = product(rows, 32)
        search = Search(module, host, 1, True, database, ms.cost_model.RandomModel(seed=1), plain=1)
        (candidate,) = search.candidates(1, set())
        database.commit_tuning_record(
            ms.database.TuningRecord(
                candidate.sch.trace,
                database.commit_workload(module),
                [rows * 1e-6],
                host.target(),
                candidate.args_info,
            )
        )
    return best_of(database)


@pytest.fixture
def path(known: list[Known], host: targets.TargetInfo, tmp_path: Path) -> Path:
    return starting.write(known, host.target(), "a machine", tmp_path)


def changed(path: Path, **fields: str) -> None:
    """Say something else of a file's records."""
    about, *records = lzma.decompress(path.read_bytes()).decode().split("\n")
    path.write_bytes(lzma.compress("\n".join([json.dumps(json.loads(about) | fields), *records]).encode()))


def test_what_was_written_is_read(known: list[Known], path: Path, host: targets.TargetInfo) -> None:
    read = starting.read(host.target(), path.parent)
    assert [(each.structure, each.extents, each.seconds) for each in read] == [
        (each.structure, each.extents, each.seconds) for each in sorted(known, key=lambda each: -each.seconds)
    ]
    assert {trace_key(each.record.trace) for each in read} == {trace_key(each.record.trace) for each in known}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_says_on_what_its_records_were_measured(path: Path) -> None:
    about = json.loads(lzma.decompress(path.read_bytes()).decode().split("\n")[0])
    assert about["measured_on"] == "a machine"
    assert about["tvm"] == tvm.__version__


@pytest.mark.parametrize(
    ("cpu", "family"),
    [("skylake-avx512", "x86_64-512bit"), ("znver3", "x86_64-256bit"), ("nehalem", "x86_64-128bit")],
)
def test_a_family_has_the_same_vectors(cpu: str, family: str) -> None:
    target = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": cpu})
    assert starting.family_of(target) == family


def test_another_processor_of_the_family_has_its_records(known: list[Known], tmp_path: Path) -> None:
    one, other, narrow = (
        tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": cpu, "num-cores": cores})
        for cpu, cores in (("znver3", 2), ("haswell", 8), ("nehalem", 2))
    )
    starting.write(known, one, "a machine", tmp_path)
    assert len(starting.read(other, tmp_path)) == len(known)
    assert starting.read(narrow, tmp_path) == []


def test_a_gpu_has_none(path: Path) -> None:
    gpu = tvm.target.Target({"kind": "opencl", "device": "mali"}, host={"kind": "llvm"})
    assert starting.family_of(gpu) is None
    assert starting.read(gpu, path.parent) == []


def test_of_many_the_most_expensive_are_kept(
    known: list[Known], host: targets.TargetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_ALIKE", 2)
    starting.write(known, host.target(), "a machine", tmp_path)
    seconds = [each.seconds for each in starting.read(host.target(), tmp_path)]
    assert seconds == sorted((each.seconds for each in known), reverse=True)[:2]


def test_the_file_stays_small(
    known: list[Known], host: targets.TargetInfo, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = path.stat().st_size
    monkeypatch.setattr(limits, "MOST_BYTES", size - 1)
    assert starting.write(known, host.target(), "a machine", path.parent).stat().st_size < size
    assert 0 < len(starting.read(host.target(), path.parent)) < len(known)


def test_records_of_another_version_are_left_out(path: Path, host: targets.TargetInfo) -> None:
    changed(path, tvm="0.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert starting.read(host.target(), path.parent) == []


def test_a_file_of_another_family_is_left_out_with_a_warning(path: Path, host: targets.TargetInfo) -> None:
    changed(path, family="another")
    with pytest.warns(UserWarning, match="left out: its records are of another"):
        assert starting.read(host.target(), path.parent) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        lzma.compress(b""),
        lzma.compress(b"null\n{}"),
        lzma.compress(b"{}"),
        lzma.compress(b"[1]\n[2]"),
        lzma.compress(b"\xff\xfe"),
    ],
)
def test_a_damaged_file_is_left_out_with_a_warning(
    content: bytes, path: Path, host: targets.TargetInfo
) -> None:
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="are left out"):
        assert starting.read(host.target(), path.parent) == []


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_changed_or_cut_file_is_left_out_with_a_warning(
    at: float, path: Path, host: targets.TargetInfo
) -> None:
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    cut = bytes(content[:place])
    content[place] ^= 1
    for damaged in (bytes(content), cut):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="are left out"):
            assert starting.read(host.target(), path.parent) == []


def test_a_function_alike_takes_the_nearest(path: Path, host: targets.TargetInfo) -> None:
    starting_records = starting.read(host.target(), path.parent)
    experience = Experience.of(ms.database.MemoryDatabase(), starting_records)
    (same,) = experience.records_of_its_sizes(product(8, 32))
    near = experience.records_like(product(16, 32), 3)
    by_rows = {each.extents[0]: each.record for each in starting_records}
    assert same is by_rows[8]
    assert near[2] is by_rows[4]
    module = product(8, 32)
    candidate = replay(module, same.trace, tune_context(module, host.target(), heavy=True))
    assert trace_key(candidate.sch.trace) == trace_key(same.trace)


def test_what_the_user_knows_comes_first(known: list[Known], path: Path, host: targets.TargetInfo) -> None:
    own = ms.database.MemoryDatabase(MODULE_EQUALITY)
    for each in known:
        own.commit_workload(each.record.workload.mod)
        own.commit_tuning_record(each.record)
    experience = Experience.of(own, starting.read(host.target(), path.parent))
    first, second = experience.records_of_its_sizes(product(8, 32))
    assert isinstance(first, ms.database.TuningRecord)
    assert isinstance(second, limits.Stored)
