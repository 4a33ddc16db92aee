"""A .pt2 archive can hold code in many places; none of it may run."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from pipeline.errors import ImportRefused, ModelNotReadable
from pipeline.importer.torch_archive import load_archive

MODEL = "models/model.json"


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "modèle un.pt2"
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(module, (torch.randn(2, 3, 8, 8),), dynamic_shapes=(batch,))
    torch.export.save(program, path)
    return path


def change(path: Path, name: str, edit) -> None:
    """Rewrite one record of an archive, or add it."""
    with zipfile.ZipFile(path) as old:
        root = old.namelist()[0].partition("/")[0]
        records = {record: old.read(record) for record in old.namelist()}
    records[f"{root}/{name}"] = edit(records.get(f"{root}/{name}"))
    with zipfile.ZipFile(path, "w") as new:
        for record, data in records.items():
            new.writestr(record, data)


def change_program(path: Path, edit) -> None:
    def rewrite(data: bytes) -> bytes:
        program = json.loads(data)
        edit(program)
        return json.dumps(program).encode()

    change(path, MODEL, rewrite)


def replace_text(path: Path, old: str, new: str) -> None:
    def rewrite(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    change(path, MODEL, rewrite)


def test_an_archive_of_torch_is_loaded(archive):
    program = load_archive(archive)
    assert set(program.state_dict) == {"0.weight", "0.bias"}


def test_a_rewritten_archive_is_loaded(archive):
    change_program(archive, lambda program: None)
    assert set(load_archive(archive).state_dict) == {"0.weight", "0.bias"}


def test_pickled_example_inputs_do_not_run(archive, tmp_path):
    trace = tmp_path / "trace"
    change(archive, "data/sample_inputs/model.pt", lambda _: pickle.dumps((Bomb(trace),)))
    with pytest.raises(ImportRefused, match="example inputs"):
        load_archive(archive)
    assert not trace.exists()


def test_pickled_weights_do_not_run(archive, tmp_path):
    trace = tmp_path / "trace"

    def mark(data: bytes) -> bytes:
        config = json.loads(data)
        config["config"]["0.weight"]["use_pickle"] = True
        return json.dumps(config).encode()

    change(archive, "data/weights/model_weights_config.json", mark)
    change(archive, "data/weights/weight_0", lambda _: pickle.dumps(Bomb(trace)))
    with pytest.raises(ImportRefused, match=r"pickled value '0\.weight'"):
        load_archive(archive)
    assert not trace.exists()


def test_legacy_pickled_weights_are_refused(archive, tmp_path):
    trace = tmp_path / "trace"
    change(archive, "data/weights/model.pt", lambda _: pickle.dumps(Bomb(trace)))
    with pytest.raises(ImportRefused, match=r"record 'data/weights/model\.pt'"):
        load_archive(archive)
    assert not trace.exists()


@pytest.mark.parametrize(
    "record", ["data/aotinductor/model/a.so", "models/other.json", "data/constants/opaque_0"]
)
def test_records_beyond_tensors_and_graph_are_refused(archive, record):
    change(archive, record, lambda _: b"x")
    with pytest.raises(ImportRefused, match="record"):
        load_archive(archive)


def test_code_in_an_input_name_does_not_run(archive, tmp_path):
    trace = tmp_path / "trace"
    code = f"input=__import__('pathlib').Path('{trace}').touch()"
    replace_text(archive, '"name": "input"', json.dumps({"name": code})[1:-1])
    with pytest.raises(ImportRefused, match="as a name"):
        load_archive(archive)
    assert not trace.exists()


@pytest.mark.parametrize("code", ["__import__(chr(111)+chr(115)).abort()", "9**9**9**9", "Symbol.mro()"])
def test_code_in_a_size_expression_does_not_run(archive, code):
    replace_text(archive, '"expr_str": "Symbol(', f'"expr_str": "{code}, Symbol(')
    with pytest.raises(ImportRefused, match="as a expr_str"):
        load_archive(archive)


def test_guards_written_as_code_are_refused(archive):
    change_program(archive, lambda program: program.update(guards_code=["__import__('os').abort()"]))
    with pytest.raises(ImportRefused, match="guards"):
        load_archive(archive)


def test_functions_beyond_aten_are_refused_by_name(archive):
    replace_text(archive, "torch.ops.aten.relu.default", "torch.hub.load")
    with pytest.raises(ImportRefused, match=r"torch\.hub\.load \(relu\)"):
        load_archive(archive)


def test_other_containers_are_refused(archive):
    replace_text(archive, "builtins.dict", "collections.Anything")
    with pytest.raises(ImportRefused, match="in_spec"):
        load_archive(archive)


def test_a_checkpoint_is_not_an_archive(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelNotReadable, match=r"not a torch\.export archive"):
        load_archive(path)


@pytest.mark.parametrize("length", [10, 1000, 4000])
def test_a_cut_archive_is_told(archive, length):
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(ModelNotReadable, match="cut off") as caught:
        load_archive(archive)
    assert "\n" not in str(caught.value)
