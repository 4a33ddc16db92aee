"""The plans of whole networks: GoogLeNet's is the paper's."""

from pathlib import Path

import pytest
import torch
import tvm
from googlenet import seeded_network
from onnx import numpy_helper
from torch import nn
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx
from tvm_ffi import structural_hash

import pipeline
import relay_passes
from relay_passes import (
    Kind,
    MergePlan,
    Reason,
    apply_plan,
    canonicalize,
    cost,
    exact_only,
    layer_table,
    plan_merges,
    reborn_layers,
)
from relay_passes.convolution import Convolution
from relay_passes.graph import Graph

INCEPTIONS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def _light(name):
    model = seeded_network(name)
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    imported = from_onnx(model, keep_params_in_input=True, sanitize_input_names=False)
    return canonicalize(imported, weights)


@pytest.fixture(scope="module")
def googlenet():
    return _light("inception_v1")


@pytest.fixture(scope="module")
def plan(googlenet):
    return plan_merges(googlenet)


def test_googlenets_merges_are_the_papers(plan):
    streamlines = [c for c in plan.candidates if c.kind is Kind.STREAMLINE]
    branches = [c for c in plan.candidates if c.kind is Kind.BRANCH]
    assert [c.name for c in streamlines[:2]] == ["conv1/7x7_s2", "conv2/3x3"]
    assert [sorted(name.rpartition("_")[0] for name in c.removed) for c in streamlines[:2]] == [
        ["lrn", "max_pool2d"],
        ["lrn", "max_pool2d"],
    ]
    assert [c.name for c in branches] == [f"inception_{stage}" for stage in INCEPTIONS]
    assert [c.removed[0].rpartition("_")[0] for c in streamlines[2:]] == ["max_pool2d", "max_pool2d"]
    assert len(plan.candidates) == 13
    assert not any(c.exact for c in plan.candidates)
    assert [r.reason for r in plan.refusals] == [Reason.GLOBAL_POOL]


def test_googlenets_inception_3a_has_the_papers_widths(googlenet, plan):
    module = apply_plan(googlenet, plan)
    graph = Graph(module)
    widths = {
        var.name: c.weight.shape
        for var in graph.layers
        if (c := Convolution.at(graph, var)) is not None and var.name.startswith("inception_3a")
    }
    assert widths == {
        "inception_3a/3x3_reduce": (48, 192, 1, 1),
        "inception_3a/3x3": (192, 48, 3, 3),
        "inception_3a/5x5_reduce": (16, 192, 1, 1),
        "inception_3a/5x5": (64, 16, 5, 5),
    }


def test_googlenets_shapes_stay(googlenet, plan):
    before = {row.name: row.output_shape for row in layer_table(googlenet)}
    module = apply_plan(googlenet, plan)
    relax.analysis.well_formed(module)
    tvm.ir.assert_structural_equal(module["main"].ret_ty, googlenet["main"].ret_ty)
    joined = {row.name: row.output_shape for row in layer_table(module) if row.operator == "concat"}
    assert len(joined) == 9
    sizes = [before[name][1] for name in joined]
    assert [shape[1] for shape in joined.values()] == sizes
    assert set(reborn_layers(module)) <= {var.name for var in Graph(module).layers}


@pytest.mark.parametrize("name", ["googlenet", "resnet50", "squeezenet", "shufflenet"])
def test_savings_add_up_to_the_merged_networks_cost(request, name):
    module = request.getfixturevalue(name) if name == "googlenet" else _light(name)
    made = plan_merges(module)
    before, after = cost(module), cost(apply_plan(module, made))
    for count in ("macs", "parameters", "activation_bytes"):
        value = getattr(before, count)
        for candidate in made.candidates:
            assert getattr(candidate, f"{count}_before") == value
            value = getattr(candidate, f"{count}_after")
        assert value == getattr(after, count)


def test_resnets_folds_and_its_stem():
    """M6: the pool behind the first convolution goes; what the residual sums read stays."""
    module = _light("resnet50")
    made = plan_merges(module)
    assert sum(c.kind is Kind.FOLD for c in made.candidates) >= 53
    assert [c.name for c in made.candidates if c.kind is Kind.STREAMLINE] == ["gpu_0/conv1"]
    merged = apply_plan(module, made)
    assert "multiply" not in {row.operator for row in layer_table(merged)}
    tvm.ir.assert_structural_equal(merged["main"].ret_ty, module["main"].ret_ty)


def test_the_plan_survives_json_and_does_the_same(googlenet, plan):
    again = MergePlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    tvm.ir.assert_structural_equal(
        apply_plan(googlenet, again), apply_plan(googlenet, plan), map_free_vars=True
    )


def test_planning_is_deterministic(googlenet, plan):
    assert plan_merges(googlenet) == plan


def test_nothing_is_left_to_plan(googlenet, plan):
    again = plan_merges(apply_plan(googlenet, plan))
    assert again.candidates == ()


def test_the_module_is_not_changed_in_place(googlenet, plan):
    before = structural_hash(googlenet, map_free_vars=True)
    apply_plan(googlenet, plan)
    plan_merges(googlenet)
    assert structural_hash(googlenet, map_free_vars=True) == before
    assert reborn_layers(googlenet) == []


def test_merge_steps_one_after_the_other(googlenet, plan):
    """As retraining makes them: each a plan of its own, on what the one before left."""
    module = googlenet
    for candidate in plan.candidates:
        module = apply_plan(module, MergePlan(candidates=(candidate,)))
        assert cost(module).macs == candidate.macs_after
    together = apply_plan(googlenet, plan)
    assert cost(module) == cost(together)
    assert set(reborn_layers(module)) == set(reborn_layers(together))


def test_exact_merges_alone(from_torch, randomised):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    case = from_torch(randomised(net), torch.randn(1, 3, 8, 8))
    made = plan_merges(case.module)
    exact = plan_merges(case.module, choice=exact_only)
    assert [c.kind for c in exact.candidates] == [Kind.FOLD, Kind.FOLD]
    assert [r.reason for r in exact.refusals] == [Reason.NEEDS_RETRAINING]
    module = apply_plan(case.module, exact)
    assert reborn_layers(module) == []
    assert case.difference(module) < 1e-5
    assert reborn_layers(apply_plan(case.module, made)) == ["0"]


def test_a_plan_for_another_network_changes_nothing(from_torch, plan):
    module = from_torch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 8, 8)).module
    tvm.ir.assert_structural_equal(apply_plan(module, plan), module, map_free_vars=True)


def test_every_reason_is_given_somewhere():
    packages = (Path(relay_passes.__file__).parent, Path(pipeline.__file__).parent)
    sources = [path for package in packages for path in package.rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert [reason.name for reason in Reason if f"Reason.{reason.name}" not in text] == []
