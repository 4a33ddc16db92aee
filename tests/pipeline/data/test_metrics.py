import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import find_metric
from pipeline.errors import UserError


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 30), classes=st.integers(1, 12), seed=st.integers(0, 1000))
def test_top_1_and_top_5_count_as_numpy_does(samples, classes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(classes), (samples, 1)), axis=1).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    outputs = (torch.tensor(scores).reshape(samples, classes, 1, 1),)
    for count in (1, 5):
        best = np.argsort(-scores, axis=1)[:, :count]
        theirs = [100.0 * (label in row) for label, row in zip(labels, best, strict=True)]
        ours = find_metric(f"top-{count}").scores(outputs, torch.tensor(labels), None)
        assert ours.tolist() == theirs


def test_agreement_needs_no_labels():
    metric = find_metric("agreement")
    ours, original = torch.tensor([[1.0, 2], [3, 1]]), torch.tensor([[[5.0]], [[6.0]], [[9.0]], [[1.0]]])
    assert not metric.labels_needed
    assert metric.scores((ours,), None, (original.reshape(2, 2, 1, 1),)).tolist() == [100, 100]
    assert metric.scores((ours,), None, (-original.reshape(2, 2),)).tolist() == [0, 0]


@pytest.mark.parametrize("labels", [None, torch.tensor([0.5, 1.0]), torch.tensor([[0], [1]]), {"pitch": 1}])
def test_top_1_needs_class_indices(labels):
    metric = find_metric("top-1")
    assert metric.labels_needed
    with pytest.raises(UserError, match="top-1 needs one class index for each sample"):
        metric.scores((torch.zeros(2, 3),), labels, None)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "my_metrics.py").write_text(
        "def near(outputs, labels): return -(outputs[:, 0] - labels).abs()\n"
        "def first(outputs, labels): return [float(each) for each in outputs[0][:, 0]]\n"
        "def mean(outputs, labels): return outputs.mean()\n"
        "def fails(outputs, labels): raise KeyError('pitch')\n"
        "def bad(outputs, labels): return outputs[:, 0] / 0\n"
        "def words(outputs, labels): return 'good'\n"
    )


def test_a_users_function(module):
    outputs = torch.tensor([[1.0, 9], [4, 9]])
    assert find_metric("my_metrics:near").scores((outputs,), torch.tensor([3, 4]), None).tolist() == [-2, 0]
    assert find_metric("my_metrics:first").scores((outputs, outputs), None, None).tolist() == [1, 4]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mean", r"returned the shape \(\) for 2 samples: return one number for each"),
        ("fails", "my_metrics:fails failed: KeyError: 'pitch'"),
        ("bad", "not finite"),
        ("words", "my_metrics:words failed"),
    ],
)
def test_a_users_function_that_is_wrong(module, name, reason):
    with pytest.raises(UserError, match=reason):
        find_metric(f"my_metrics:{name}").scores((torch.ones(2, 3),), None, None)


@pytest.mark.parametrize(
    ("name", "reason"), [("top1", "choose top-1, top-5, agreement"), ("my:f", "no module my")]
)
def test_no_such_metric(name, reason):
    with pytest.raises(UserError, match=reason):
        find_metric(name)
