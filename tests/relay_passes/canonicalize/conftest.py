import pytest


@pytest.fixture
def from_torch(from_decomposed_torch):
    """Spellings are tested as they come from torch's decomposition."""
    return from_decomposed_torch
