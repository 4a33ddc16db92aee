import pytest
from pydantic import ValidationError

from pipeline.data.preprocessing import Preprocessing


def test_a_record_survives_its_file():
    record = Preprocessing(size=(7, 9), resize=12, mean=(0.1, 0.2, 0.3), channels="BGR")
    assert Preprocessing.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mean": (1.0, 2.0)}, "one for each channel"),
        ({"channels": "L", "std": (1.0, 1.0, 1.0)}, "one for each channel of L"),
        ({"std": (1.0, 0.0, 1.0)}, "zero"),
        ({"resize": 7}, "too short"),
        ({"scale": float("nan")}, "finite"),
        ({"size": (0, 3)}, "greater than 0"),
    ],
)
def test_contradictions_are_refused(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        Preprocessing(**{"size": (8, 8), **fields})
