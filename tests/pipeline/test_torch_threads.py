import pytest
import torch

from pipeline.torch_threads import one_thread


def test_one_thread_inside_and_as_many_as_before_after_it():
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


def test_after_an_error_too():
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == threads
