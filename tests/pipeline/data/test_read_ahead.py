import threading
from functools import partial

import pytest

from pipeline.data import read_ahead as module
from pipeline.data.read_ahead import DEPTH, read_ahead
from pipeline.errors import UserError


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_everything_comes_in_order_and_the_thread_ends():
    assert list(read_ahead(partial(pow, number, 2) for number in range(50))) == [n**2 for n in range(50)]
    assert not readers()


def test_nothing_to_do():
    assert list(read_ahead(iter([]))) == []


def test_what_a_job_raises_is_raised_after_what_came_before():
    made = read_ahead(partial(divmod, 6, number) for number in (3, 2, 0, 1))
    assert [next(made), next(made)] == [(2, 0), (3, 0)]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert not readers()


@pytest.mark.parametrize("used", [1, 2, 7])
def test_closing_ends_the_thread_and_little_is_made_in_vain(used):
    made = []

    def jobs():
        number = 0
        while True:
            yield partial(made.append, number)
            number += 1

    iterator = read_ahead(jobs())
    for _ in range(used):
        next(iterator)
    iterator.close()
    assert not readers()
    assert used <= len(made) <= used + DEPTH + 2


def test_a_job_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "ENDING_S", 0.01)
    let_go = threading.Event()
    with pytest.raises(UserError, match="takes longer than"):
        next(read_ahead(iter([partial(let_go.wait, 30)])))
    let_go.set()
