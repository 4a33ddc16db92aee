"""The records of a network do not change, and an error is one line."""

from dataclasses import FrozenInstanceError

import pytest

from pipeline.errors import ImportRefused, UserError
from pipeline.network import TensorSpec


def test_a_record_is_frozen():
    spec = TensorSpec("x", (1, 3), "float32")
    with pytest.raises(FrozenInstanceError):
        spec.name = "y"


def test_a_users_error_is_one_line():
    error = ImportRefused("the library said:\n  no\n\tand why")
    assert isinstance(error, UserError)
    assert str(error) == "the library said: no and why"
