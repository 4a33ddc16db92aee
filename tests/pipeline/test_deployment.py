import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from pipeline import MergeRequest, Settings, Training, Tuning, deploy
from pipeline.bundle import read_bundle
from pipeline.console import Progress
from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging.retrained import retrained_network
from pipeline.report.comparison_model import Comparison
from pipeline.report.model import ACCURACY_NOT_MEASURED, FOR_TIMING_ONLY, Report
from pipeline.retraining import read_result
from relay_passes import reborn_layers
from targets import TargetError, find
from targets.runtime.opencl import OpenCLDevice
from tuning import LocalSession, TuningError
from tuning.errors import Mistake
from tuning.session_log import read_log

TRIALS = 6


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Training and validation samples of the small network's size."""
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(240, 3, 8, 8)).astype("float32"), random.integers(0, 5, 240)
    path = tmp_path / "données.npz"
    np.savez(path, x_train=images[:160], y_train=labels[:160], x_test=images[160:], y_test=labels[160:])
    return path


class Stages(Progress):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.stages: list[str] = []
        self.trials: list[int] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def tuning(self, update) -> None:
        self.trials.append(update.trials_done)


def test_exact_merges_only_without_data(small_module: nn.Module, tmp_path: Path):
    example = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    progress = Stages()
    options = {"out": tmp_path / "out", "tuning": Tuning(trials=TRIALS, database=tmp_path / "records")}
    deployment = deploy(small_module, example_inputs=example, progress=progress, **options)
    report = deployment.report

    sessions = [session for log in deployment.logs for session in read_log(log).sessions]
    assert [session.started.network for session in sessions] == ["original", "merged"]
    assert {merge.kind for merge in report.merges} == {"fold"}
    assert all(merge.exact for merge in report.merges)
    assert not report.structure_only
    assert report.notices == ()
    assert not report.accuracy.measured
    assert report.accuracy.note == ACCURACY_NOT_MEASURED
    assert "needs retraining" in {refusal.reason for refusal in report.refusals}
    assert report.speedup == pytest.approx(
        report.latency_ms.original.median / report.latency_ms.merged.median
    )
    assert {check.what.split()[0] for check in report.verification} == {"network", "tuned"}
    assert report.tuning.merged.records_applied > 0
    assert progress.trials

    with torch.no_grad():
        expected = small_module(example).numpy()
    for name in ("original", "merged"):
        bundle = read_bundle(tmp_path / "out" / name)
        np.testing.assert_allclose(*bundle.golden_outputs().values(), expected, atol=1e-5)

    again = Stages()
    deploy(small_module, example_inputs=example, progress=again, **options)
    assert again.trials == []


def test_structure_only_is_marked_wherever_it_goes(small_onnx: Path, tmp_path: Path):
    out = tmp_path / "ausgabe ü"
    report = deploy(
        small_onnx,
        out=out,
        tuning=Tuning(trials=TRIALS, database=tmp_path / "d b"),
        request=MergeRequest(retraining=True),
    ).report

    assert [merge.name for merge in report.merges if not merge.exact] == ["stem"]
    assert report.structure_only
    assert report.notices == (FOR_TIMING_ONLY,)
    assert Report.model_validate_json((out / "report.json").read_text("utf-8")) == report
    assert FOR_TIMING_ONLY in (out / "report.md").read_text("utf-8")
    assert FOR_TIMING_ONLY in (out / "report.html").read_text("utf-8")
    assert FOR_TIMING_ONLY in read_bundle(out / "merged").manifest.notices
    assert read_bundle(out / "original").manifest.notices == ()
    assert report.totals.merged.macs < report.totals.original.macs

    bundle = read_bundle(out / "original")
    session = onnxruntime.InferenceSession(small_onnx.read_bytes())
    expected = session.run(None, bundle.golden_inputs())
    np.testing.assert_allclose(*bundle.golden_outputs().values(), expected[0], atol=1e-6)
    example = subprocess.run(
        [sys.executable, out / "merged" / "load_and_run.py"], capture_output=True, check=True
    )
    assert FOR_TIMING_ONLY.encode() in example.stdout
    assert b"largest difference" in example.stdout


def test_a_retrained_network_is_deployed_with_its_accuracy(
    small_onnx: Path, tmp_path: Path, write_retraining: Callable
):
    out = tmp_path / "out"
    record = write_retraining(tmp_path / "gelernt ü", small_onnx)
    how = Tuning(trials=TRIALS, database=tmp_path / "records")
    options = {"tuning": how, "retrained": tmp_path / "gelernt ü"}
    report = deploy(small_onnx, out=out, **options).report

    assert [(merge.name, merge.retrained) for merge in report.merges] == [("norm", False), ("stem", True)]
    assert not report.structure_only
    assert report.notices == ()
    assert (report.accuracy.before, report.accuracy.after, report.accuracy.drop) == (91.25, 91.0, 0.25)
    assert [step.kept for step in report.accuracy.steps] == [True, False]
    assert report.totals.merged.macs < report.totals.original.macs
    for name, value in (("original", 91.25), ("merged", 91.0)):
        manifest = read_bundle(out / name).manifest
        assert manifest.preprocessing == record.preprocessing
        assert (manifest.accuracy.metric, manifest.accuracy.value) == ("top-1", value)
        assert manifest.accuracy.data.name == "digits/val"
    bundle = read_bundle(out / "merged")
    session = onnxruntime.InferenceSession(tmp_path / "gelernt ü" / "network.onnx")
    expected = session.run(None, bundle.golden_inputs())
    np.testing.assert_allclose(*bundle.golden_outputs().values(), expected[0], atol=1e-6)


def test_a_killed_deployment_does_not_retrain_again(small_onnx: Path, data: Path, tmp_path: Path):
    class Killed(Stages):
        def stage(self, name: str) -> None:
            super().stage(name)
            if name == "Reading the retrained network":
                raise KeyboardInterrupt

    training = Training(data=data, settings=Settings(max_drop=0, epochs=1, batch_size=16, keep_all=True))
    options = {"tuning": Tuning(database=tmp_path / "records"), "request": MergeRequest(retraining=True)}
    results = []
    for _ in range(2):
        progress = Killed()
        with pytest.raises(KeyboardInterrupt):
            deploy(small_onnx, out=tmp_path / "out", training=training, progress=progress, **options)
        assert progress.stages == ["Retraining", "Reading the retrained network"]
        results.append(read_result(tmp_path / "out.retraining"))
    first, second = results
    assert second.record == first.record
    assert first.record.validation.samples == 80
    assert [(step.name, step.kept) for step in first.record.steps] == [("stem", True)]
    assert not reborn_layers(retrained_network(first, load_network(small_onnx)).module)
    assert not (tmp_path / "out").exists()


def test_a_library_that_differs_is_not_handed_over(small_onnx: Path, tmp_path: Path, monkeypatch):
    """The compiled code is right, so the reference is made wrong."""
    from pipeline import verification
    from pipeline.merging import verified

    def worse(module, inputs):
        return [value * 1.01 for value in exact(module, inputs)]

    exact = verified.evaluate
    monkeypatch.setattr(verified, "evaluate", worse)
    with pytest.raises(verification.NotVerified, match="exact merges"):
        deploy(small_onnx, out=tmp_path / "out", tuning=Tuning(trials=TRIALS, database=tmp_path / "records"))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    """A target of the user's own that this machine can run, too."""
    place = tmp_path / "twin.toml"
    place.write_text(
        f'name = "twin"\ndescription = "a twin"\ntriple = "{find("host").triple}"\n'
        f'cpu = "generic"\ncores = {find("host").threads}\n'
    )
    return place


def test_several_targets_are_compared_in_one_report(small_onnx: Path, twin: Path, tmp_path: Path):
    out, progress = tmp_path / "für zwei", Stages()
    with LocalSession(find("host"), key="board") as session:
        board = {"tracker": (session.rpc_config.host, session.rpc_config.port), "key": "board"}
        deployment = deploy(
            small_onnx,
            out=out,
            targets=("host", str(twin)),
            tuning=Tuning(trials=2, database=tmp_path / "records", **board),
            progress=progress,
        )
    comparison = deployment.report
    assert [report.target.name for report in comparison.targets] == ["host", "twin"]
    assert progress.stages.count("Merging") == 1
    medians = {report.target.name: report.latency_ms.merged.median for report in comparison.targets}
    assert comparison.choice.target == min(medians, key=medians.get)
    assert comparison.choice.median_ms == min(medians.values())
    assert (out / comparison.choice.folder / "library.so").is_file()
    assert Comparison.model_validate_json((out / "report.json").read_text("utf-8")) == comparison
    assert len(deployment.logs) == 4
    for part, report in zip(deployment.targets, comparison.targets, strict=True):
        assert part.directory == out / report.target.name
        assert Report.model_validate_json((part.directory / "report.json").read_text("utf-8")) == report
        assert report.latency_ms.original.runs == report.latency_ms.merged.runs == 50
        for network in ("original", "merged"):
            assert read_bundle(part.directory / network).manifest.target == report.target


def test_a_phone_s_gpu_on_pocl_is_labelled_and_never_chosen(
    opencl: OpenCLDevice, small_onnx: Path, tmp_path: Path
):
    if "pocl" not in opencl.version.lower():
        pytest.skip(f"{opencl.name} is no PoCL")
    out = tmp_path / "out"
    deployment = deploy(
        small_onnx,
        out=out,
        targets=("host", "mali-g76+host"),
        tuning=Tuning(trials=2, database=tmp_path / "records"),
        request=MergeRequest(retraining=True),
    )
    cpu, gpu = deployment.report.targets
    assert deployment.report.choice.target == "host"
    assert gpu.device.emulated
    assert gpu.speedup is None
    assert gpu.device.measured_on.startswith("PoCL on ")
    assert gpu.device.measured_on.endswith("in place of Mali-G76")
    assert (cpu.target.device_type, gpu.target.device_type) == ("cpu", "opencl")
    for report in (cpu, gpu):
        assert 0 < report.launches.merged < report.launches.original
        assert (report.kernels is None) == (report is cpu)
    for network in ("original", "merged"):
        kernels = getattr(gpu.kernels, network)
        assert sum(each.launches for each in kernels) == getattr(gpu.launches, network)
        assert [each.microseconds for each in kernels] == sorted(
            (each.microseconds for each in kernels), reverse=True
        )
        assert f"Kernels of the {network} network" in (
            (out / "mali-g76-on-host" / "report.html").read_text("utf-8")
        )
    assert "Kernels launched" in (out / "mali-g76-on-host" / "report.md").read_text("utf-8")
    bundle = read_bundle(out / "mali-g76-on-host" / "original")
    session = onnxruntime.InferenceSession(small_onnx.read_bytes())
    expected = session.run(None, bundle.golden_inputs())
    np.testing.assert_allclose(*bundle.golden_outputs().values(), expected[0], atol=1e-6)
    assert bundle.manifest.target.gpu.local_bytes == find("mali-g76").gpu.local_bytes


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"target": "toaster"}, TargetError, "host"),
        ({"target": "mali-g76+toaster"}, TargetError, "toaster"),
        ({"target": "mali-g76"}, UserError, r"cannot be measured here.*mali-g76\+host"),
        ({"targets": ("host", "toaster")}, TargetError, "host"),
        ({"targets": ("host", "host")}, UserError, "host is given twice"),
        ({"targets": ("host", "auto")}, UserError, "host is given twice"),
        ({"target": "opencl", "tuning": {"threads": 1}}, UserError, "--threads 1: opencl runs on a GPU"),
        ({"tuning": {"device": "pocl"}}, UserError, "--device pocl: host runs on the processor"),
        (
            {"target": "opencl", "tuning": {"device": "x", "tracker": ("localhost", 1), "key": "k"}},
            UserError,
            "DEEPREBIRTH_OPENCL_DEVICE",
        ),
        ({"tuning": {"trials": 0}}, UserError, "at least 1"),
        ({"tuning": {"seconds": 0.0}}, UserError, "--time-budget 0"),
        ({"tuning": {"threads": 0}}, UserError, "--threads 0"),
        ({"tuning": {"threads": 10_000}}, UserError, "--threads 10000"),
        ({"tuning": {"key": "phone"}}, UserError, "belong together"),
        ({"tuning": {"builders": "ftp://x"}}, TuningError, "cannot build at 'ftp://x'"),
        ({"retrained": "nowhere"}, UserError, "nowhere holds no finished retraining"),
        ({"retrained": "r", "training": Training(data="d")}, UserError, "not both"),
        ({"out": "/proc/nothing/here"}, UserError, "cannot write"),
    ],
)
def test_mistakes_are_told_before_long_work(options, error, says, small_onnx: Path, tmp_path: Path):
    progress = Stages()
    options = {"out": tmp_path / "out", **options}
    how = {"database": tmp_path / "records", **options.pop("tuning", {})}
    with pytest.raises(error, match=says):
        deploy(small_onnx, progress=progress, tuning=Tuning(**how), **options)
    assert progress.stages == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("targets", [("opencl",), ("host", "opencl")])
def test_a_missing_opencl_device_is_told_before_long_work(
    targets, opencl: OpenCLDevice, small_onnx: Path, tmp_path: Path, monkeypatch
):
    how = {"database": tmp_path / "records"}
    options = {"out": tmp_path / "out", "targets": targets}
    with pytest.raises(Mistake, match="no OpenCL device is voodoo"):
        deploy(small_onnx, tuning=Tuning(device="voodoo", **how), **options)
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    with pytest.raises(Mistake, match=r"pocl-opencl-icd.*doctor"):
        deploy(small_onnx, tuning=Tuning(**how), **options)
    assert not (tmp_path / "out").exists()


def test_targets_that_would_share_a_folder(small_onnx: Path, tmp_path: Path, twin: Path, opencl):
    twin.write_text(twin.read_text().replace('"twin"', '"opencl-on-host"'))
    board = {"tracker": ("localhost", 1), "key": "k", "database": tmp_path / "records"}
    with pytest.raises(UserError, match="the same folder"):
        deploy(small_onnx, out=tmp_path / "out", targets=("opencl+host", str(twin)), tuning=Tuning(**board))


def test_a_foreign_directory_is_left_alone(small_onnx: Path, tmp_path: Path):
    precious = tmp_path / "out" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        deploy(small_onnx, out=tmp_path / "out", tuning=Tuning(database=tmp_path / "records"))
    assert precious.read_text() == "years of work"
