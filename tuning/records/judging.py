"""Tells lines that TVM may see from those that it must not: it ends the process for some of them."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import InstructionKind

from tuning.records import lines

TVM_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


class Record(NamedTuple):
    """The fields of a record's line: its workload's number, steps and decisions, run times, target."""

    workload: int
    trace: list[Any]
    run_secs: list[float]
    target: dict[str, Any]
    args_info: list[Any]

    def line(self, workload: int) -> str:
        """Return the line of this record for a workload of another number."""
        return lines.dump([workload, [self.trace, self.run_secs, self.target, self.args_info]])


def workload_hash(line: str) -> str | None:
    """Return the structural hash that a workload's line holds, or None if the line is no workload."""
    match lines.parse(line):
        case [str(digest), str(module)] if digest.isdecimal() and _is_graph(module):
            return digest if _succeeds(lambda: ms.database.Workload.from_json([digest, module])) else None
    return None


def record_of(line: str) -> Record | None:
    """Return the fields of a record's line, or None if the line is no record."""
    match lines.parse(line):
        case [int(index), [[list(steps), list(decisions)] as trace, run_secs, dict(target), list(infos)]] if (
            type(index) is int
            and _all(steps, _is_step)
            and _all(decisions, lambda each: _is_decision(each, len(steps)))
            and _are_times(run_secs)
            and _all(infos, _is_tensor)
        ):
            return Record(index, trace, run_secs, target, infos)
    return None


def fits(line: str, workloads: list[ms.database.Workload]) -> bool:
    """Tell whether a record's schedule can be applied to its function."""
    index, fields = json.loads(line)
    return _succeeds(
        lambda: ms.database.TuningRecord.from_json(fields, workloads[index]).as_measure_candidate()
    )


def _is_graph(text: str) -> bool:
    """Tell whether a workload's second field holds objects of TVM: base64, in it a length and JSON."""
    try:
        graph = json.loads(base64.b64decode(text, validate=True)[8:])
        return isinstance(graph["nodes"], list) and isinstance(graph["root_index"], int)
    except (binascii.Error, ValueError, KeyError, TypeError):
        return False


def _is_step(step: Any) -> bool:
    match step:
        case [str(kind), list(), list(), list(outputs)]:
            return _is_instruction(kind) and _all(outputs, lambda each: isinstance(each, str))
    return False


@cache
def _is_instruction(kind: str) -> bool:
    return _succeeds(lambda: InstructionKind.get(kind))


def _is_decision(decision: Any, steps: int) -> bool:
    match decision:
        case [int(step), value]:
            return 0 <= step < steps and value is not None
    return False


def _are_times(run_secs: Any) -> bool:
    numbers = isinstance(run_secs, list) and _all(run_secs, lambda each: type(each) in (int, float))
    return numbers and len(run_secs) > 0 and min(run_secs) > 0


def _is_tensor(info: Any) -> bool:
    match info:
        case ["TENSOR", str(), list(shape)]:
            return _all(shape, lambda each: type(each) is int and each > 0)
    return False


def _all(values: Iterable[Any], test: Callable[[Any], bool]) -> bool:
    return all(test(value) for value in values)


def _succeeds(attempt: Callable[[], object]) -> bool:
    """Tell whether TVM does what is asked of it without an error."""
    try:
        attempt()
    except TVM_ERRORS:
        return False
    return True
