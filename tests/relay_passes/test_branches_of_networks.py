"""Branch merges of whole networks with seeded weights: how many, what each refusal says, what is saved."""

import numpy as np
import pytest
from googlenet import seeded_network
from tvm.relax.frontend.onnx import from_onnx

from pipeline.twin import evaluate
from relay_passes import Kind, MergePlan, Reason, apply_plan, canonicalize, cost, plan_merges, strip_softmax


@pytest.fixture(scope="module", params=["inception_v2", "squeezenet", "densenet121", "shufflenet"])
def network(request):
    imported = from_onnx(seeded_network(request.param), keep_params_in_input=True, sanitize_input_names=False)
    function = imported["main"]
    params = function.params[int(function.attrs["num_input"]) :]
    weights = {var.name: value.numpy() for var, value in zip(params, function.attrs["params"], strict=True)}
    module = strip_softmax(canonicalize(imported, weights))
    return request.param, module, plan_merges(module)


EXPECTED = {
    "inception_v2": (8, 2, {Reason.SAVES_NOTHING}),
    "squeezenet": (8, 0, set()),
    "densenet121": (0, 58, {Reason.NO_WEIGHTS, Reason.SEVERAL_USERS}),
    "shufflenet": (0, 3, {Reason.NO_WEIGHTS}),
}
SAVED = {"inception_v2": 0.26, "squeezenet": 0.27, "densenet121": 0.03, "shufflenet": 0.04}
"""At least this part of the multiply-adds is gone after all merges."""


def test_how_many_blocks_merge(network):
    name, _, plan = network
    merges, refusals, reasons = EXPECTED[name]
    refused = [refusal for refusal in plan.refusals if refusal.kind is Kind.BRANCH]
    assert sum(candidate.kind is Kind.BRANCH for candidate in plan.candidates) == merges
    assert (len(refused), {refusal.reason for refusal in refused}) == (refusals, reasons)
    assert len({refusal.place for refusal in refused}) == refusals


def test_what_is_saved(network):
    name, module, plan = network
    assert plan.candidates[-1].macs_after < (1 - SAVED[name]) * cost(module).macs


def test_steps_one_after_the_other_make_the_same_network(network):
    _, module, plan = network
    folds = tuple(candidate for candidate in plan.candidates if candidate.kind is Kind.FOLD)
    one_by_one = apply_plan(module, MergePlan(candidates=folds))
    for candidate in plan.candidates[len(folds) :]:
        one_by_one = apply_plan(one_by_one, MergePlan(candidates=(candidate,)))
        assert cost(one_by_one).macs == candidate.macs_after
    together = apply_plan(module, plan)
    assert cost(one_by_one) == cost(together)
    assert plan_merges(together).candidates == ()


def test_the_merged_network_computes(network):
    _, module, plan = network
    merged = apply_plan(module, plan)
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype("float32")
    before, after = evaluate(module, [x])[0], evaluate(merged, [x])[0]
    assert before.shape == after.shape
    assert np.isfinite(after).all()
