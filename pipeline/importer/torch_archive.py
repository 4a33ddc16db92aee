"""Open a `torch.export` archive (.pt2) without running code from it.

`torch.export.load` unpickles what an archive marks as pickled, loads shared libraries, evaluates symbolic
expressions and compiles names into Python source. So the archive is read once into memory, and everything in
it that could become code is checked first: only plain tensors, identifiers, `aten` operators and simple size
expressions pass.
"""

from __future__ import annotations

import io
import json
import keyword
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader

from pipeline.errors import ImportRefused, ModelNotReadable

MODEL = "models/model.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"

RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|extra/.*|data/weights/weight_\d+"
    r"|data/constants/tensor_\d+|" + "|".join(map(re.escape, (MODEL, SAMPLE_INPUTS, WEIGHTS, CONSTANTS)))
)
PAYLOADS = re.compile(r"(weight|tensor)_\d+")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
QUALIFIED_NAME = re.compile(r"[A-Za-z0-9_.]+")
OPERATOR = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+"
    r"|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|ge|gt|le|lt|and_|getitem|truediv)"
)
SIZE_EXPRESSION = re.compile(
    r"((Symbol|Integer|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|positive|nonnegative|integer|True|False"
    r"|'[su]\d+'|[su]\d+|\d+)(?!\w)|[-(), =])+"
)
CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", None)
ARGUMENTS = {
    f"as_{kind}"
    for kind in (
        *("bool", "bools", "device", "expr", "float", "floats", "int", "ints", "layout", "memory_format"),
        *("name", "nested_tensors", "none", "optional_tensor", "optional_tensors", "scalar_type", "string"),
        *("strings", "sym_bool", "sym_bools", "sym_float", "sym_floats", "sym_int", "sym_ints", "tensor"),
        *("tensors",),
    )
}

RESAVE = "save it again with torch.export.save of torch 2.13"


def load_archive(path: Path) -> torch.export.ExportedProgram:
    """Load an archive.

    Parameters
    ----------
    path : Path

    Returns
    -------
    torch.export.ExportedProgram

    Raises
    ------
    ModelNotReadable
        If the file is no archive of `torch.export.save`.
    ImportRefused
        If it holds anything beyond tensors and `aten` operators.
    """
    data = path.read_bytes()
    try:
        _Screening(path, PT2ArchiveReader(io.BytesIO(data))).run()
    except (RuntimeError, AssertionError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelNotReadable(
            f"{path} is not a torch.export archive, or is cut off: {_short(error)}"
        ) from None
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(io.BytesIO(data))
    except Exception as error:
        raise ModelNotReadable(f"{path} cannot be loaded ({_short(error)}): {RESAVE}") from None
    finally:
        log.setLevel(level)


class _Screening:
    """Goes through the archive with the reader that torch loads it with."""

    def __init__(self, path: Path, reader: PT2ArchiveReader):
        self._path = path
        self._reader = reader

    def run(self) -> None:
        for name in self._reader.get_file_names():
            if not RECORDS.fullmatch(name):
                self._refuse(f"record {name!r}")
        self._payloads(json.loads(self._reader.read_string(WEIGHTS)))
        self._payloads(json.loads(self._reader.read_string(CONSTANTS)))
        self._sample_inputs()
        self._program(json.loads(self._reader.read_string(MODEL)))

    def _refuse(self, what: str) -> None:
        raise ImportRefused(f"{self._path} holds {what}, which is not loaded from a user's file: {RESAVE}")

    def _payloads(self, payloads: dict[str, Any]) -> None:
        for name, payload in payloads["config"].items():
            if payload.get("use_pickle") or not PAYLOADS.fullmatch(payload["path_name"]):
                self._refuse(f"the pickled value {name!r}")
        self._values(payloads)

    def _sample_inputs(self) -> None:
        data = self._reader.read_bytes(SAMPLE_INPUTS)
        try:
            if data:
                torch.load(io.BytesIO(data), weights_only=True)
        except Exception:
            self._refuse("example inputs that are not tensors")

    def _program(self, program: dict[str, Any]) -> None:
        if program.get("guards_code"):
            self._refuse("guards written as code")
        if program["graph_module"].get("treespec_namedtuple_fields"):
            self._refuse("inputs or outputs in a named tuple")
        nodes = program["graph_module"]["graph"]["nodes"]
        foreign = [f"{n['target']} ({n.get('name')})" for n in nodes if not OPERATOR.fullmatch(n["target"])]
        if foreign:
            raise ImportRefused(f"operators that cannot be imported: {'; '.join(foreign)}")
        self._values(program)

    def _values(self, value: Any) -> None:
        for key, item in _entries(value):
            if key.startswith("as_") and key not in ARGUMENTS:
                self._refuse(f"an argument of kind {key.removeprefix('as_')!r}")
            if isinstance(item, str) and not self._is_harmless(key, item):
                self._refuse(f"{item[:60]!r} as a {key}")

    def _is_harmless(self, key: str, text: str) -> bool:
        match key:
            case "name" | "as_name" | "forward_arg_names":
                return not text or (bool(IDENTIFIER.fullmatch(text)) and not keyword.iskeyword(text))
            case "parameter_name" | "buffer_name" | "tensor_constant_name":
                return bool(QUALIFIED_NAME.fullmatch(text))
            case "expr_str":
                return bool(SIZE_EXPRESSION.fullmatch(text))
            case "in_spec" | "out_spec":
                return _is_plain_tree(json.loads(text)[1])
        return True


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of nested dicts with their values; the items of a list under the list's key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name, item
            yield from _entries(item, name)
    elif isinstance(value, list):
        for item in value:
            yield key, item
            yield from _entries(item, key)


def _is_plain_tree(node: dict[str, Any]) -> bool:
    context = json.loads(node["context"]) if node["context"] is not None else None
    plain = context is None or (isinstance(context, list) and all(isinstance(item, str) for item in context))
    return plain and node["type"] in CONTAINERS and all(map(_is_plain_tree, node["children_spec"]))


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
