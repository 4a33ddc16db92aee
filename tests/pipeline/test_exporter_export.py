"""Whole networks as ONNX files: the same numbers, the user's names, and nothing left to merge exactly."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import tvm
from hypothesis import Phase, given, settings
from networks import ZOO
from torch import nn

from pipeline import export, load_network
from pipeline.errors import UserError
from pipeline.exporter import Exported, UnsupportedOperators, to_onnx
from pipeline.exporter import export as exporting
from pipeline.exporter.operators import OPERATORS
from pipeline.merging import MergeRequest
from pipeline.network import Network
from pipeline.twin import evaluate
from pipeline.verification import NotVerified
from relay_passes import (
    REBORN,
    apply_plan,
    exact_only,
    make_merges,
    plan_merges,
    reborn_layers,
    strip_softmax,
)
from relay_passes.graph import Graph

WHOLE_NETWORKS = (
    *("light_inception_v1", "light_inception_v2", "light_squeezenet", "light_resnet50"),
    *("crepe_tiny", "mtcnn_onet", "ppocr_v4_rec"),
)
ALL_MERGES = MergeRequest(retraining=True)


def random_networks_strategy() -> ModuleType:
    """The random networks that the passes are tested with."""
    path = Path(__file__).parents[1] / "relay_passes" / "test_random_networks.py"
    spec = importlib.util.spec_from_file_location("random_networks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


random_networks = random_networks_strategy()


@dataclass(frozen=True)
class Case:
    """A network, and what it is with its exact and with all merges."""

    network: Network
    exact: tvm.IRModule
    merged: tvm.IRModule

    @property
    def inputs(self) -> list[np.ndarray]:
        return list(self.network.golden.inputs.values())


@pytest.fixture(scope="module", params=WHOLE_NETWORKS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    entry = next(entry for entry in ZOO if entry.name == request.param)
    if entry.missing:
        pytest.skip(entry.missing)
    network = load_network(entry.write(tmp_path_factory.mktemp(entry.name)), input_shapes=entry.input_shapes)
    plan = plan_merges(network.module)
    exact = make_merges(network.module, choice=exact_only).module
    return Case(network, exact, apply_plan(network.module, plan))


def run(model: onnx.ModelProto | Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    data = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([each.name for each in session.get_inputs()], inputs, strict=True)))


def difference(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest value of its output."""
    assert [value.shape for value in found] == [value.shape for value in wanted]
    return max(
        float(np.abs(value.astype("float64") - expected).max() / max(np.abs(expected).max(), 1e-6))
        for value, expected in zip(found, wanted, strict=True)
    )


def convolutions(module: tvm.IRModule) -> set[str]:
    graph = Graph(module)
    return {var.name for var in graph.layers if graph.call(var, "nn.conv2d", "matmul") is not None}


def test_networks_compute_the_same_merged_and_unmerged(case: Case):
    for module in (case.network.module, case.exact):
        logits = run(to_onnx(strip_softmax(module)), case.inputs)
        assert difference(logits, list(case.network.golden.logits.values())) < 1e-4
    merged = strip_softmax(case.merged)
    assert difference(run(to_onnx(merged), case.inputs), evaluate(merged, case.inputs)) < 1e-4


def test_the_file_is_imported_again_with_nothing_left_to_merge_exactly(case: Case, tmp_path: Path):
    model = to_onnx(
        case.exact,
        inputs=[each.name for each in case.network.inputs],
        outputs=[each.name for each in case.network.outputs],
    )
    onnx.save(model, tmp_path / "merged.onnx")
    again = load_network(tmp_path / "merged.onnx")
    assert plan_merges(again.module, choice=exact_only).candidates == ()
    assert convolutions(again.module) == convolutions(case.network.module)
    assert (again.inputs, again.outputs) == (case.network.inputs, case.network.outputs)


def test_the_graph_is_plain(case: Case):
    model = to_onnx(case.exact)
    found = {node.op_type for node in model.graph.node}
    assert found.isdisjoint({"Identity", "Shape", "Gather", "Cast", "Constant", "Pad"})
    assert {node.name for node in model.graph.node} >= convolutions(case.network.module)


def test_exact_merges_from_a_file(small_onnx: Path, tmp_path: Path):
    out = tmp_path / "neu ü" / "merged network.onnx"
    exported = export(small_onnx, onnx_file=out)
    model = onnx.load(out)
    assert [node.op_type for node in model.graph.node] == [
        *("Conv", "Relu", "MaxPool", "Flatten", "MatMul", "Softmax")
    ]
    assert [node.name for node in model.graph.node][0::4] == ["stem", "head"]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "classes"]
    source = load_network(small_onnx)
    found = run(out, list(source.golden.inputs.values()))
    assert difference(found, list(source.golden.outputs.values())) < 1e-4
    assert [each.name for each in exported.plan.candidates] == ["norm"]
    assert (exported.reborn, exported.notices, model.doc_string) == ((), (), "")
    assert exported.bytes == out.stat().st_size
    assert exported.worst.passed
    assert len(exported.verification) == 3
    said = {each.key: each.value for each in model.metadata_props}
    assert said["deeprebirth.source_digest"] == source.source_digest
    assert json.loads(said["deeprebirth.merges"]) == [{"name": "norm", "kind": "fold", "exact": True}]
    assert Exported.model_validate_json(exported.model_dump_json()) == exported
    assert list(out.parent.iterdir()) == [out]


def test_reborn_layers_are_told(small_onnx: Path, tmp_path: Path):
    out = tmp_path / "merged.onnx"
    exported = export(small_onnx, onnx_file=out, request=ALL_MERGES)
    model = onnx.load(out)
    said = {each.key: each.value for each in model.metadata_props}
    assert exported.reborn == ("stem",)
    assert json.loads(said["deeprebirth.reborn"]) == ["stem"]
    assert model.doc_string == said["deeprebirth.notice"] == exported.notices[0]
    assert model.doc_string == "for timing only: 1 reborn layer is not trained"
    assert "MaxPool" not in {node.op_type for node in model.graph.node}
    assert load_network(out).outputs == load_network(small_onnx).outputs


def test_a_module_in_memory(small_module: nn.Module, tmp_path: Path):
    x = torch.randn(1, 3, 8, 8)
    out = tmp_path / "merged.onnx"
    export(small_module, onnx_file=out, example_inputs=x)
    with torch.no_grad():
        wanted = small_module(x).numpy()
    assert difference(run(out, [x.numpy()]), [wanted]) < 1e-4


def test_an_older_file_is_replaced_also_behind_a_link(small_onnx: Path, tmp_path: Path):
    (tmp_path / "real.onnx").write_text("old")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    export(small_onnx, onnx_file=tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    onnx.load(tmp_path / "real.onnx")


def forgetful(translate):
    """A translation that loses the first weight."""

    def run(module, **labels):
        model = translate(module, **labels)
        weight = model.graph.initializer[0]
        weight.raw_data = bytes(len(weight.raw_data))
        return model

    return run


@pytest.mark.parametrize("request_", [MergeRequest(), ALL_MERGES], ids=["exact", "all"])
def test_what_differs_is_not_handed_over(
    request_: MergeRequest, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = sys.modules[exporting.__module__]
    monkeypatch.setattr(module, "to_onnx", forgetful(module.to_onnx))
    with pytest.raises(NotVerified, match="exported network in onnxruntime"):
        export(small_onnx, onnx_file=tmp_path / "merged.onnx", request=request_)
    assert not (tmp_path / "merged.onnx").exists()


def test_weights_beyond_an_onnx_file_are_refused(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.modules[exporting.__module__], "LARGEST_FILE", 1000)
    with pytest.raises(UserError, match="an ONNX file holds"):
        export(small_onnx, onnx_file=tmp_path / "merged.onnx")
    assert not (tmp_path / "merged.onnx").exists()


def test_unsupported_operators_are_refused_before_anything_is_written(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(OPERATORS, "nn.max_pool2d")
    with pytest.raises(UnsupportedOperators, match="max_pool2d in "):
        export(small_onnx, onnx_file=tmp_path / "new" / "merged.onnx")
    assert not (tmp_path / "new").exists()


def test_an_exported_network_that_is_not_trained_stays_marked(small_onnx: Path, tmp_path: Path):
    path = tmp_path / "merged.onnx"
    export(small_onnx, onnx_file=path, request=MergeRequest(retraining=True))
    again = load_network(path)
    assert reborn_layers(again.module) == ["stem"]
    assert export(path, onnx_file=tmp_path / "again.onnx").notices
    model = onnx.load(path)
    next(each for each in model.metadata_props if each.key == REBORN).value = "{"
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"deeprebirth\.reborn is no list of layers"):
        load_network(path)


@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate])
@given(random_networks.networks())
def test_random_networks(network: nn.Module):
    source = load_network(
        network.eval(),
        example_inputs=torch.randn(1, random_networks.CHANNELS, random_networks.SIZE, random_networks.SIZE),
    )
    inputs = list(source.golden.inputs.values())
    plan = plan_merges(source.module)
    exact = run(to_onnx(make_merges(source.module, choice=exact_only).module), inputs)
    assert difference(exact, list(source.golden.outputs.values())) < 1e-4
    merged = apply_plan(source.module, plan)
    assert difference(run(to_onnx(merged), inputs), evaluate(merged, inputs)) < 1e-4
