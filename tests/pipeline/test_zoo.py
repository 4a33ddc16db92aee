"""Every network of the zoo (benchmarks/networks.py): imported, merged and inspected, or refused by name.

The importer compares each with onnxruntime or torch as it imports; the tests compare again after merging.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import ZOO, ZooNetwork

from pipeline.cli.main import run
from pipeline.errors import ImportRefused
from pipeline.importer import load_network
from pipeline.network import Network
from pipeline.twin import evaluate
from relay_passes import Kind, exact_only, make_merges, strip_softmax

IMPORTED = [entry for entry in ZOO if entry.status == "imported"]
REFUSED = {
    "ddddocr_lstm": {"LSTM"},
    "ddddocr_int8": {"ConvInteger", "DynamicQuantizeLSTM"},
}
FOLDING = ("densenet121", "inception_v2", "resnet50", "shufflenet")
RETRAINED = ("bvlc_alexnet", "inception_v1", "inception_v2", "vgg19")
QUICK = ("crepe_tiny", "mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "light_squeezenet", "ppocr_v2_cls")


def named(name: str) -> ZooNetwork:
    return next(entry for entry in ZOO if entry.name == name)


@dataclass(frozen=True)
class Case:
    """A network of the zoo, its file, and what the importer made of it."""

    entry: ZooNetwork
    file: Path
    network: Network

    @property
    def inputs(self) -> list[np.ndarray]:
        return list(self.network.golden.inputs.values())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Gone after the last test, as VGG19 alone takes 575 MB."""
    with tempfile.TemporaryDirectory(prefix="zoo é ") as path:
        yield Path(path)


@pytest.fixture(scope="module", params=IMPORTED, ids=lambda entry: entry.name)
def case(request: pytest.FixtureRequest, folder: Path) -> Iterator[Case]:
    entry = request.param
    file = written(entry, folder)
    yield Case(entry, file, load_network(file, input_shapes=entry.input_shapes))
    if file.is_relative_to(folder):
        file.unlink()


def written(entry: ZooNetwork, folder: Path) -> Path:
    if entry.missing:
        pytest.skip(entry.missing)
    return entry.write(folder)


def test_it_is_imported(case: Case):
    golden = case.network.golden
    assert [spec.name for spec in case.network.inputs] == list(golden.inputs)
    assert all(spec.shape == golden.outputs[spec.name].shape for spec in case.network.outputs)
    assert all(np.isfinite(logits).all() and np.ptp(logits) > 0 for logits in golden.logits.values())


def test_exact_merges_keep_the_logits(case: Case):
    merged = make_merges(case.network.module, choice=exact_only)
    outputs = evaluate(strip_softmax(merged.module), case.inputs)
    for output, wanted in zip(outputs, case.network.golden.logits.values(), strict=True):
        assert np.abs(output - wanted).max() <= 1e-4 * np.abs(wanted).max()
    folds = [candidate for candidate in merged.plan.candidates if candidate.kind == Kind.FOLD]
    assert folds or case.entry.name not in {f"light_{name}" for name in FOLDING}


def test_all_merges_keep_every_outputs_shape(case: Case):
    merged = make_merges(case.network.module)
    outputs = evaluate(merged.module, case.inputs)
    assert [output.shape for output in outputs] == [spec.shape for spec in case.network.outputs]
    assert all(np.isfinite(output).all() for output in outputs)
    needs_retraining = not all(candidate.exact for candidate in merged.plan.candidates)
    assert needs_retraining or case.entry.name not in {f"light_{name}" for name in RETRAINED}


@pytest.mark.parametrize("case", [named(name) for name in QUICK], ids=QUICK, indirect=True)
def test_it_can_be_inspected(case: Case, capsys: pytest.CaptureFixture[str]):
    assert run(["inspect", str(case.file), *case.entry.arguments]) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("case", [named("crepe_tiny")], ids=["crepe_tiny"], indirect=True)
def test_the_pitch_tracker_folds_all_its_norms(case: Case):
    folded = make_merges(case.network.module, choice=exact_only).plan.candidates
    assert [candidate.name for candidate in folded] == [f"conv{i}_BN" for i in range(1, 7)]


@pytest.mark.parametrize("name", REFUSED)
def test_every_unsupported_operator_is_named_with_its_nodes(name: str, folder: Path):
    entry = named(name)
    file = written(entry, folder)
    with pytest.raises(ImportRefused) as caught:
        load_network(file, input_shapes=entry.input_shapes)
    message = str(caught.value)
    nodes = onnx.load_model(file).graph.node
    unsupported = [node for node in nodes if node.op_type in REFUSED[name]]
    assert {node.op_type for node in unsupported} == REFUSED[name]
    assert all(node.op_type in message and node.name in message for node in unsupported)
    assert "\n" not in message


@pytest.mark.parametrize("name", REFUSED)
def test_inspecting_a_refused_one_is_one_line(name: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    entry = named(name)
    assert run(["inspect", str(written(entry, folder)), *entry.arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_the_zoo_is_complete():
    assert len({entry.name for entry in ZOO}) == len(ZOO) == 20
    assert {entry.name for entry in ZOO if entry.status == "refused"} == set(REFUSED)


def test_a_missing_package_is_told():
    entry = ZooNetwork("of no package", lambda folder: folder, ("no-such-package",))
    assert entry.missing == "no-such-package missing: pip install --no-deps -r benchmarks/networks.txt"
