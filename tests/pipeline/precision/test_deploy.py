"""What `deploy` refuses of float16, before anything begins."""

import numpy as np
import pytest
import torch

from pipeline import Tuning, deploy
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dtype": "float8"}, "no dtype float8: choose float32 or float16"),
        ({"validation": "val"}, "--validation has no use here"),
        ({"dtype": "float16", "target": "cortex-a53"}, "cortex-a53 .* has no float16 arithmetic"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(classifier, tmp_path, given: dict, says: str) -> None:
    how = Tuning(tracker=("127.0.0.1", 9), key="none", database=tmp_path / "d")
    image = torch.from_numpy(np.zeros((1, 3, 8, 8), "float32"))
    with pytest.raises(UserError, match=says) as refused:
        deploy(classifier, example_inputs=image, out=tmp_path / "out", tuning=how, **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
