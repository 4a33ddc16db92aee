"""The key of a schedule: the same for traces that make the same decisions, in memory and in a file.

What MetaSchedule's postprocessors add to a trace follows from the decisions, so it is left out. TVM writes
``true`` as 1 and 1.0 as 1 into its files, and an index map as a text of JSON, with or without white space: so
numbers are compared as numbers, and such a text as what it says.
"""

import hashlib
import json
from typing import Any

import tvm

from tuning.records import lines

_POSTPROCESSORS = "EnterPostproc"


def trace_key(trace: tvm.s_tir.Trace) -> str:
    """Return a text that is the same for two traces that make the same decisions."""
    return _digest(json.loads(json.dumps(trace.as_json(remove_postproc=True), default=_value)))


def line_key(trace: list[Any]) -> str:
    """Return the same key for a trace as it stands in a record's line: steps and decisions."""
    steps, decisions = trace
    kinds = [step[0] for step in steps]
    end = kinds.index(_POSTPROCESSORS) if _POSTPROCESSORS in kinds else len(steps)
    return _digest([steps[:end], [each for each in decisions if each[0] < end]])


def _digest(trace: list[Any]) -> str:
    return hashlib.sha256(json.dumps(_plain(trace), sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, str) and value.startswith("{"):
        return _plain(lines.parse(value)) or value
    return value


def _value(number: Any) -> Any:
    return number.value
