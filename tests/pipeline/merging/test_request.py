"""What users ask for, from Python and from plan files, and their mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging import MergeRequest, merge_network, merge_verified, read_plan, write_plan
from pipeline.twin import evaluate
from relay_passes import Kind, Ratio, reborn_layers

ALL = MergeRequest(retraining=True)


@pytest.fixture(scope="module")
def network(tmp_path_factory, write_small_onnx):
    return load_network(write_small_onnx(tmp_path_factory.mktemp("models") / "small.onnx"))


def kinds(merged):
    return {candidate.kind for candidate in merged.plan.candidates}


def test_exact_merges_unless_more_is_asked_for(network):
    assert kinds(merge_network(network, MergeRequest())) == {Kind.FOLD}
    assert kinds(merge_network(network, ALL)) == {Kind.FOLD, Kind.STREAMLINE}


def test_a_wrong_name_is_told_with_those_alike(network):
    with pytest.raises(UserError, match=r"no merge is called 'stom'.*stem"):
        merge_network(network, MergeRequest(only=("stom",)))


def test_a_plan_edited_by_hand(network, tmp_path: Path):
    path = tmp_path / "plän.json"
    write_plan(path, merge_network(network, ALL).plan, network.name)
    edited = json.loads(path.read_text("utf-8"))
    assert edited["network"] == "small"
    edited["plan"]["candidates"] = [c for c in edited["plan"]["candidates"] if c["kind"] == "fold"]
    path.write_text(json.dumps(edited), "utf-8")
    merged = merge_network(network, MergeRequest(retraining=True, plan=read_plan(path)))
    assert kinds(merged) == {Kind.FOLD}


def test_a_plan_of_another_network(network):
    plan = merge_network(network, ALL).plan
    stranger = plan.candidates[0].model_copy(update={"name": "x", "layers": ("x", "y")})
    with pytest.raises(UserError, match="'x' \\(fold\\) cannot be made: the network has no such layers"):
        merge_network(network, MergeRequest(plan=plan.model_copy(update={"candidates": (stranger,)})))


def test_a_plan_that_needs_another_merge_first(small_module):
    network = load_network(small_module, example_inputs=torch.zeros(1, 3, 8, 8))
    plan = merge_network(network, ALL).plan
    shift = next(each for each in plan.candidates if each.name == "1.shift")
    with pytest.raises(UserError, match=r"'1.shift' \(fold\) cannot be made: another layer in between"):
        merge_network(network, MergeRequest(plan=plan.model_copy(update={"candidates": (shift,)})))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Invalid JSON"),
        ("{}", "network"),
        ('{"network": "a", "plan": {"candidates": 3}}', "plan.candidates"),
        ('{"network": "a", "plan": {}, "version": 2}', "version"),
        ('{"network": "a", "plan": {"candidate": []}}', "plan.candidate"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, text: str, says: str):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a merge plan") as caught:
        read_plan(path)
    assert says in str(caught.value)
    with pytest.raises(UserError, match="cannot read merge plan"):
        read_plan(tmp_path / "none.json")


def test_decomposition_goes_on_top_and_its_ranks_are_the_plans(network):
    merged = merge_network(network, MergeRequest(retraining=True, ranks=Ratio(0.6)))
    (tucker,) = merged.plan.decompositions
    assert tucker.ranks is not None
    assert {"stem"} <= set(reborn_layers(merged.module))
    rank = (tucker.ranks[0], tucker.ranks[1] - 1)
    edited = merged.plan.model_copy(
        update={"candidates": (*merged.plan.merges, tucker.model_copy(update={"ranks": rank}))}
    )
    again = merge_network(network, MergeRequest(retraining=True, plan=edited))
    assert again.plan.decompositions[0].ranks == rank
    too_many = tucker.model_copy(update={"ranks": (99, 2)})
    wrong = merged.plan.model_copy(update={"candidates": (*merged.plan.merges, too_many)})
    with pytest.raises(UserError, match="ranks 99, 2 exceed"):
        merge_network(network, MergeRequest(retraining=True, plan=wrong))
    assert merge_network(network, MergeRequest(ranks=Ratio(0.6))).plan.decompositions == ()


def test_the_reference_of_exact_merges_is_the_original(network):
    merged = merge_verified(network, MergeRequest())
    assert merged.plan.is_exact
    assert merged.reference is network.golden.outputs
    assert merged.check.passed
    assert "before its softmax" in merged.check.what or merged.check.what == "network with its exact merges"


def test_the_reference_of_others_is_the_merged_network_itself(network):
    merged = merge_verified(network, ALL)
    assert not merged.plan.is_exact
    outputs = evaluate(merged.module, list(network.golden.inputs.values()))
    np.testing.assert_array_equal(*merged.reference.values(), *outputs)
    assert merged.against == "the merged network in torch"
