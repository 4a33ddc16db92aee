"""A report of a small network, and ways to make others from it."""

import pytest

from pipeline.report import model as m


@pytest.fixture
def facts() -> dict:
    """The fields of a valid report, exact merges only."""
    latency = m.Compared[m.Latency](
        original=m.Latency(median=20.0, p90=22.5, runs=50, tuned_trials=64, untuned=150.0),
        merged=m.Latency(median=8.0, p90=9.0, runs=50, tuned_trials=64, untuned=80.0),
    )
    device = m.Device(measured_on="Test CPU, Linux x86_64", emulated=False, threads=2)
    speedup, note = m.speedup_of(latency, device)
    return {
        "structure_only": False,
        "model": m.Model(
            name="tiny.onnx",
            framework="onnx",
            source_digest="sha256:" + "0" * 64,
            inputs=(m.Tensor(name="x", shape=(1, 3, 8, 8), dtype="float32"),),
            outputs=(m.Tensor(name="y", shape=(1, 4), dtype="float32"),),
        ),
        "target": m.Target(name="host", triple="x86_64-linux-gnu", cpu="znver4", threads=2),
        "device": device,
        "versions": {"apache-tvm": "0.27.0.post1"},
        "merges": (merge(name="conv1", exact=True),),
        "refusals": (
            m.Refusal(name="pool5", kind="streamline", layers=("pool5",), reason="no convolution before it"),
        ),
        "totals": m.Compared[m.Totals](
            original=m.Totals(macs=1_580_000_000, params=7_000_000, layers=140),
            merged=m.Totals(macs=590_000_000, params=7_400_000, layers=58),
        ),
        "latency_ms": latency,
        "speedup": speedup,
        "speedup_note": note,
        "memory": m.Compared[m.Memory](
            original=m.Memory(planned_bytes=9_600_000, library_bytes=1_400_000, weights_bytes=28_000_000),
            merged=m.Memory(planned_bytes=7_100_000, library_bytes=900_000, weights_bytes=29_600_000),
        ),
        "verification": (
            m.Verification(
                what="exact merges against the original",
                against="onnxruntime",
                max_abs_diff=1.5e-6,
                tolerance=1e-4,
                passed=True,
            ),
        ),
        "tuning": m.Compared[m.Tuning](original=tuning(), merged=tuning()),
    }


@pytest.fixture
def report(facts: dict) -> m.Report:
    """A valid report, exact merges only."""
    return m.Report(**facts)


@pytest.fixture
def structure_only(facts: dict) -> m.Report:
    """A valid report with a reborn layer that was not trained."""
    untrained = {
        "structure_only": True,
        "notices": (m.FOR_TIMING_ONLY,),
        "merges": (merge(name="inception_3a/3x3", exact=False),),
    }
    return m.Report(**facts | untrained)


@pytest.fixture
def accuracy() -> m.Accuracy:
    """Measured, with a step that was kept and one that was undone."""
    return m.Accuracy(
        measured=True,
        metric="top-1",
        before=91.25,
        after=91.0,
        drop=0.25,
        training=m.Samples(name="digits/train", samples=4000),
        validation=m.Samples(name="digits/val", samples=1000, skipped=2, unreadable=("a b.png", "c.png")),
        steps=(step("conv1", True, 91.25, 91.0), step("inception_3a", False, 91.0, 87.5)),
        note="measured on 1,000 samples of digits/val; trained on 4,000 samples of digits/train",
    )


@pytest.fixture
def retrained(facts: dict, accuracy: m.Accuracy) -> m.Report:
    """A valid report with a reborn layer that was trained."""
    made = merge(name="conv1", exact=False).model_copy(update={"retrained": True})
    return m.Report(**facts | {"merges": (made,), "accuracy": accuracy})


@pytest.fixture
def emulated(facts: dict) -> m.Report:
    """A valid report from an emulated device."""
    device = m.Device(measured_on="cortex-a72", emulated=True, threads=1)
    speedup, note = m.speedup_of(facts["latency_ms"], device)
    return m.Report(**facts | {"device": device, "speedup": speedup, "speedup_note": note})


def merge(name: str, exact: bool) -> m.Merge:
    return m.Merge(
        name=name,
        kind="streamline",
        exact=exact,
        layers=(name, "bn1"),
        layers_removed=1,
        params_before=500,
        params_after=400,
        macs_before=3_000_000,
        macs_after=2_000_000,
    )


def step(name: str, kept: bool, before: float, after: float) -> m.AccuracyStep:
    return m.AccuracyStep(
        name=name,
        merges=(name,),
        kept=kept,
        reason=None if kept else "lost 3.5 points after 2 epochs",
        before=before,
        started=40.5,
        accuracy=after,
        iterations=1250,
        seconds=75.2,
    )


def tuning() -> m.Tuning:
    return m.Tuning(
        tasks=3, trials=64, records_applied=2, functions=3, untuned=("fused_lrn",), seconds=41.0, failed=1
    )
