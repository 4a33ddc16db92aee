"""A metric on all samples of a loader."""

import numpy as np
import pytest
import torch

from pipeline.data import Batch, Loader, Metric, find_metric
from pipeline.errors import UserError
from pipeline.retraining.evaluate import evaluate
from pipeline.retraining.processes import Processes


class Rows:
    """Scores as samples, the last of them unreadable."""

    name, classes, labelled = "rows", 4, True

    def __init__(self, count: int, missing: int = 0):
        rng = np.random.default_rng(count)
        self.scores = torch.from_numpy(rng.normal(size=(count, 4)).astype("float32"))
        self.labels = torch.from_numpy(rng.integers(0, 4, count))
        self.readable, self.unreadable = count - missing, {}

    def __len__(self):
        return len(self.scores)

    def fetch(self, indices, augmentation):
        assert augmentation is None
        self.unreadable |= {str(i): "cut off" for i in indices if i >= self.readable}
        at = [i for i in indices if i < self.readable]
        return Batch((self.scores[at],), self.labels[at]) if at else Batch((), None)


@pytest.mark.parametrize(("count", "missing"), [(12, 0), (13, 0), (13, 6), (3, 0)])
def test_the_mean_over_all_samples_that_can_be_read(count, missing):
    """Whatever the batches are: the last one is smaller, and counts less."""
    source = Rows(count, missing)
    found = evaluate(lambda x: (x,), Loader(source, 5, seed=0), find_metric("top-1"), Processes())
    n = source.readable
    right = source.scores[:n].argmax(1) == source.labels[:n]
    assert found == pytest.approx(100 * float(right.double().mean()))


def test_nothing_can_be_read():
    with pytest.raises(UserError, match="no sample of rows can be read"):
        evaluate(lambda x: (x,), Loader(Rows(4, 4), 2, seed=0), find_metric("top-1"), Processes())


def test_compared_with_the_original():
    source = Rows(20)
    metric, loader = find_metric("agreement"), Loader(source, 8, seed=0)
    assert evaluate(lambda x: (x,), loader, metric, Processes()) == 100
    found = evaluate(lambda x: (x + 1,), loader, metric, Processes(), lambda x: (x[:, [1, 0, 2, 3]],))
    same = source.scores.argmax(1) == source.scores[:, [1, 0, 2, 3]].argmax(1)
    assert found == pytest.approx(100 * float(same.double().mean()))


def test_without_gradients():
    def network(x):
        assert torch.is_inference_mode_enabled()
        return (x,)

    whole = Metric("mine", labels_needed=False, compute=lambda outputs, labels, reference: outputs[0][:, 0])
    source = Rows(7)
    found = evaluate(network, Loader(source, 3, seed=0), whole, Processes())
    assert found == pytest.approx(float(source.scores[:, 0].double().mean()))
