import pytest

from relay_passes import Candidate, Kind, MergePlan, Reason, Refusal
from relay_passes.merge_plan import common_name


def _candidate(name, kind, exact, before, after):
    return Candidate(
        name=name,
        kind=kind,
        exact=exact,
        layers=("conv", name),
        removed=(name,),
        macs_before=before,
        macs_after=after,
        parameters_before=before * 2,
        parameters_after=after * 2,
        activation_bytes_before=before * 3,
        activation_bytes_after=after * 3,
    )


PLAN = MergePlan(
    candidates=(
        _candidate("bn", Kind.FOLD, True, 100, 100),
        _candidate("pool", Kind.STREAMLINE, False, 100, 60),
        _candidate("größe 1", Kind.BRANCH, True, 60, 50),
    ),
    refusals=(
        Refusal(name="p", kind=Kind.FOLD, layers=("p",), reason=Reason.SIGN, detail="why"),
    ),
)  # fmt: skip


def test_a_plan_survives_json():
    assert MergePlan.model_validate_json(PLAN.model_dump_json()) == PLAN


def test_a_plan_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        PLAN.candidates[0].name = "other"


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="extra"):
        MergePlan.model_validate({"candidate": []})


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["inception_3a/1x1", "inception_3a/3x3", "inception_3a/pool_proj"], "inception_3a"),
        (["features.3.expand1x1", "features.3.expand3x3"], "features.3"),
        (["a.b.0", "a.b"], "a"),
        (["conv1", "conv2"], ""),
        (["conv_a", "conv_b"], "conv"),
        (["same", "same"], "same"),
        (["x", "y"], ""),
    ],
)
def test_common_names(names, common):
    assert common_name(names) == common
    assert common_name(iter(names)) == common
