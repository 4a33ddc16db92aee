import pytest
from pydantic import ValidationError

from pipeline.report import model as m


def untrained_merge(facts: dict) -> m.Merge:
    return facts["merges"][0].model_copy(update={"exact": False})


def test_survives_json(report: m.Report, structure_only: m.Report, emulated: m.Report, retrained: m.Report):
    for each in (report, structure_only, emulated, retrained):
        assert m.Report.model_validate_json(each.model_dump_json()) == each


def test_is_frozen_and_knows_its_fields(report: m.Report, facts: dict):
    with pytest.raises(ValidationError):
        report.speedup = 100.0
    with pytest.raises(ValidationError, match="surprise"):
        m.Report(**facts, surprise=1)


def test_untrained_layers_need_structure_only(facts: dict):
    with pytest.raises(ValidationError, match="not retrained, so the report is structure_only: conv1"):
        m.Report(**facts | {"merges": (untrained_merge(facts),), "notices": (m.FOR_TIMING_ONLY,)})


def test_structure_only_needs_the_notice(facts: dict):
    with pytest.raises(ValidationError, match="reborn layers not trained: for timing only"):
        m.Report(**facts | {"merges": (untrained_merge(facts),), "structure_only": True})


def test_retrained_layers_need_no_notice(facts: dict):
    retrained = untrained_merge(facts).model_copy(update={"retrained": True})
    assert not m.Report(**facts | {"merges": (retrained,)}).structure_only


def test_no_speedup_from_an_emulated_device(facts: dict, emulated: m.Report):
    assert emulated.speedup is None
    assert "emulated" in emulated.speedup_note
    with pytest.raises(ValidationError, match="no speed-up is claimed from an emulated device"):
        m.Report(**facts | {"device": emulated.device})


def test_a_failed_verification_is_not_handed_over(facts: dict):
    failed = facts["verification"][0].model_copy(update={"passed": False, "max_abs_diff": 0.2})
    with pytest.raises(ValidationError, match="verification failed, nothing is handed over"):
        m.Report(**facts | {"verification": (failed,)})
    with pytest.raises(ValidationError, match="at least 1 item"):
        m.Report(**facts | {"verification": ()})


@pytest.mark.parametrize("difference", [2e-4, float("nan"), float("inf")])
def test_passed_cannot_contradict_the_numbers(difference: float):
    with pytest.raises(ValidationError):
        m.Verification(what="a", against="b", max_abs_diff=difference, tolerance=1e-4, passed=True)


def test_accuracy_is_measured_or_not():
    assert m.Accuracy().note == "accuracy was not measured"
    right = {
        "measured": True,
        "metric": "top-1",
        "before": 90.0,
        "after": 89.75,
        "drop": 0.25,
        "validation": m.Samples(name="val", samples=400),
        "note": "measured on 400 samples of val",
    }
    assert m.Accuracy(**right).measured
    for wrong in (
        {"before": 90.0},
        {"drop": 0.0},
        {"measured": True, "metric": "top-1"},
        {"note": "fine"},
        right | {"drop": 0.1},
        right | {"validation": None},
        right | {"note": m.ACCURACY_NOT_MEASURED},
    ):
        with pytest.raises(ValidationError):
            m.Accuracy(**wrong)


def test_latency_is_ordered():
    with pytest.raises(ValidationError, match="below its median"):
        m.Latency(median=2.0, p90=1.0, runs=3, tuned_trials=0)


def test_speedup_says_what_it_compares(report: m.Report):
    assert report.speedup == 2.5
    assert "alternately in one run on Test CPU, Linux x86_64 with 2 threads" in report.speedup_note
    assert "64 trials each" in report.speedup_note


def test_speedup_tells_unequal_budgets(report: m.Report):
    latency = report.latency_ms
    fewer = latency.model_copy(update={"merged": latency.merged.model_copy(update={"tuned_trials": 60})})
    assert "64 and 60 trials" in m.speedup_of(fewer, report.device)[1]


def test_a_name_that_is_not_unicode_can_be_written(report: m.Report):
    broken = b"net\xff.onnx".decode("utf-8", "surrogateescape")
    model = m.Model(**report.model.model_dump() | {"name": broken})
    assert m.Model.model_validate_json(model.model_dump_json()) == model
