"""Keys of schedules: the same in memory, after reading, and from the line in the file."""

import json
from pathlib import Path

import pytest
import tvm

import targets
from tuning.records import database as db
from tuning.records import keys, lines


def test_a_line_has_the_key_of_the_record_that_tvm_reads_from_it(
    base: Path, folder: Path, host: targets.TargetInfo
) -> None:
    from_lines = [keys.line_key(json.loads(line)[1][0]) for line in lines.read(folder / db.RECORDS)]
    with db.readable(base, host.target()) as (database, _):
        from_tvm = [keys.trace_key(record.trace) for record in database.get_all_tuning_records()]
    assert from_lines == from_tvm
    assert len(set(from_lines)) == 3


def test_a_candidate_has_the_key_of_its_record(host: targets.TargetInfo, function: tvm.IRModule) -> None:
    schedule = tvm.s_tir.Schedule(function)
    loop = schedule.get_loops(schedule.get_sblock("c"))[0]
    schedule.split(loop, [None, 8], preserve_unit_iters=True)
    again = tvm.s_tir.Schedule(function)
    tvm.s_tir.Trace.apply_json_to_schedule(
        json.loads(json.dumps(schedule.trace.as_json(), default=lambda number: number.value)), again
    )
    assert keys.trace_key(schedule.trace) == keys.trace_key(again.trace)


def test_an_index_map_is_the_same_however_its_text_is_set() -> None:
    spaced, tight = '{\n  "nodes": [1, true]\n}', '{"nodes":[1,1]}'
    key = keys.line_key([[["TransformLayout", ["b0", spaced], [0, 1], []]], []])
    assert key == keys.line_key([[["TransformLayout", ["b0", tight], [0, 1], []]], []])
    assert key != keys.line_key([[["TransformLayout", ["b0", '{"nodes":[2,1]}'], [0, 1], []]], []])
    assert key != keys.line_key([[["TransformLayout", ["b0", "{not JSON"], [0, 1], []]], []])


@pytest.mark.parametrize("change", [["Split", ["l0", "None", 16], [1, 0], ["l1"]], ["Parallel", [], [], []]])
def test_another_step_is_another_key(change: list) -> None:
    steps = [["Split", ["l0", "None", 8], [1, 0], ["l1"]]]
    assert keys.line_key([steps, []]) != keys.line_key([[change], []])


def test_another_decision_is_another_key_but_not_one_of_a_postprocessor() -> None:
    steps = [["SampleCategorical", [], [], ["v"]], ["EnterPostproc", [], [], []], ["Unroll", [], [], []]]
    assert keys.line_key([steps, [[0, 1]]]) != keys.line_key([steps, [[0, 2]]])
    assert keys.line_key([steps, [[0, 1]]]) == keys.line_key([steps[:1], [[0, 1]]])
    assert keys.line_key([steps, [[0, 1], [2, 5]]]) == keys.line_key([steps, [[0, 1.0]]])
