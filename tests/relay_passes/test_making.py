"""Merges are chosen, checked as they are made, and undone if they are wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax

from pipeline.twin import evaluate
from relay_passes import Kind, Reason, reborn_layers
from relay_passes.fold_batch_norm import find_folds
from relay_passes.graph import Graph
from relay_passes.making import Making
from relay_passes.merge import Findings, Merge
from relay_passes.merge_streamline import find_streamlines


@pytest.fixture
def case(from_torch, randomised):
    def stage(inputs):
        return nn.Sequential(
            nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )

    return from_torch(randomised(nn.Sequential(stage(3), stage(4), stage(4))), torch.randn(1, 3, 16, 16))


@pytest.fixture
def computing(case):
    return lambda module, at: evaluate(module, case.inputs, at)


def wrong(find, at, *, rewrite=None):
    """The merges of `find`, the one found at `at` computing something else."""

    def worse(emit, original):
        return relax.op.multiply(original(emit), relax.const(np.float32(1.001)))

    def found(graph: Graph) -> Findings:
        findings = find(graph)
        return Findings(
            tuple(
                replace(
                    merge,
                    replacements={
                        var: lambda emit, original=original: (rewrite or worse)(emit, original)
                        for var, original in merge.replacements.items()
                    },
                )
                if merge.found_at == at
                else merge
                for merge in findings.merges
            ),
            findings.refusals,
        )

    return found


def test_right_merges_pass(case, computing):
    making = Making(evaluate=computing)
    module = making.make(case.module, find_folds)
    assert len(making.plan.candidates) == 6
    assert making.plan.refusals == ()
    assert case.difference(module) < 1e-5


@pytest.mark.parametrize("at", ["0.1", "1.1", "2.1.shift"])
def test_an_exact_merge_that_differs_is_undone_alone(case, computing, at):
    making = Making(evaluate=computing)
    module = making.make(case.module, wrong(find_folds, at))
    undone = [refusal for refusal in making.plan.refusals if refusal.reason is Reason.CHECK_FAILED]
    assert [refusal.found_at for refusal in undone] == [at]
    assert "differs by 0.001" in undone[0].detail
    assert len(making.plan.candidates) == (5 if at.endswith("shift") else 4)
    assert case.difference(module) < 1e-5


def test_without_numbers_nothing_is_compared(case):
    making = Making()
    module = making.make(case.module, wrong(find_folds, "0.1.shift"))
    assert len(making.plan.candidates) == 6
    assert case.difference(module) > 1e-5


def test_merges_that_need_retraining_may_differ(case, computing):
    making = Making(evaluate=computing)
    module = making.make(making.make(case.module, find_folds), find_streamlines)
    assert reborn_layers(module) == ["0.0", "1.0", "2.0"]
    assert [each.kind for each in making.plan.candidates[-3:]] == [Kind.STREAMLINE] * 3


def test_a_merge_that_changes_a_shape_is_undone(case, computing):
    def cropped(emit, original):
        crop = relax.op.strided_slice(original(emit), [2, 3], [0, 0], [1, 1])
        return emit.layer("crop", crop)

    folded = Making().make(case.module, find_folds)
    making = Making(evaluate=computing)
    end = find_streamlines(Graph(folded)).merges[-1].found_at
    module = making.make(folded, wrong(find_streamlines, end, rewrite=cropped))
    undone = [refusal for refusal in making.plan.refusals if refusal.reason is Reason.CHECK_FAILED]
    assert [refusal.found_at for refusal in undone] == [end]
    assert "instead of" in undone[0].detail
    case.difference(module)


def test_a_merge_that_touches_more_than_it_says_is_undone(case, computing):
    """It reads around the layer in front, which nothing else reads."""

    def find(graph: Graph) -> Findings:
        return Findings(
            tuple(
                Merge(
                    name=var.name,
                    kind=Kind.STREAMLINE,
                    layers=(var.name,),
                    removed=(var.name,),
                    touches=frozenset({var}),
                    replacements={var: lambda emit, var=var: _around(graph, emit, var)},
                    reborn=("0.0",),
                )
                for var in graph.layers
                if graph.call(var, "nn.relu") is not None
            ),
            (),
        )

    def _around(graph, emit, var):
        return relax.op.nn.relu(emit(graph.value[graph.value[var].args[0]].args[0]))

    making = Making(evaluate=computing)
    module = making.make(case.module, find)
    assert making.plan.candidates == ()
    assert {refusal.reason for refusal in making.plan.refusals} == {Reason.CHECK_FAILED}
    assert all("would change or vanish" in refusal.detail for refusal in making.plan.refusals)
    assert case.difference(module) < 1e-5


def test_weights_shared_by_two_convolutions(from_torch, randomised, computing):
    """Case M2: the batch norm behind one changes the other's output in no way."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(x)), self.conv(torch.relu(x))

    case = from_torch(randomised(Net()), torch.randn(1, 3, 8, 8))
    making = Making(evaluate=lambda module, at: evaluate(module, case.inputs, at))
    module = making.make(case.module, find_folds)
    assert len(making.plan.candidates) == 2
    assert case.difference(module) < 1e-5
