import torch
import tvm
from torch import nn

from relay_passes import apply_plan, cost, plan_merges, reborn_layers
from relay_passes.fold_batch_norm import find_folds
from relay_passes.graph import Graph
from relay_passes.merge import make_planned, next_sweep
from relay_passes.merge_streamline import find_streamlines


def _row(randomised, count):
    def stage():
        return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))

    return randomised(nn.Sequential(*(stage() for _ in range(count))))


def test_merges_that_touch_nothing_in_common_are_made_together(from_torch, randomised):
    module = from_torch(_row(randomised, 3), torch.randn(1, 4, 32, 32)).module
    sweep = next_sweep(module, find_folds, lambda merge: True)
    assert [merge.found_at for merge in sweep.merges] == ["0.1", "1.1", "2.1"]
    second = next_sweep(sweep.module, find_folds, lambda merge: True)
    assert [merge.found_at for merge in second.merges] == ["0.1.shift", "1.1.shift", "2.1.shift"]
    assert next_sweep(second.module, find_folds, lambda merge: True) is None


def test_only_wanted_merges_are_made(from_torch, randomised):
    module = from_torch(_row(randomised, 2), torch.randn(1, 4, 32, 32)).module
    sweep = next_sweep(module, find_folds, lambda merge: merge.found_at == "1.1")
    assert [merge.found_at for merge in sweep.merges] == ["1.1"]
    assert {"0.1", "0.1.shift", "1.1.shift"} < {var.name for var in Graph(sweep.module).layers}


def test_changes_add_up_to_the_difference_of_the_networks(from_torch, randomised):
    module = from_torch(_row(randomised, 3), torch.randn(1, 4, 32, 32)).module
    for find in (find_folds, find_folds, find_streamlines):
        sweep = next_sweep(module, find, lambda merge: True)
        total = cost(module)
        for change in sweep.changes:
            total += change
        assert total == cost(sweep.module)
        module = sweep.module


def test_layers_that_a_later_merge_absorbs_are_no_longer_reborn(from_torch):
    """A 1x1 branch whose LRN was pruned is absorbed by the 3x3 beside it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.small, self.reduce, self.large = (
                nn.Conv2d(8, 32, 1),
                nn.Conv2d(8, 64, 1),
                nn.Conv2d(64, 64, 3, padding=1),
            )

        def forward(self, x):
            return torch.cat(
                [nn.functional.local_response_norm(self.small(x), 3), self.large(self.reduce(x))], 1
            )

    module = from_torch(Net(), torch.randn(1, 8, 8, 8)).module
    plan = plan_merges(module)
    assert [candidate.found_at for candidate in plan.candidates] == ["lrn_1", "concat_1"]
    assert reborn_layers(apply_plan(module, plan)) == ["reduce", "large"]


def test_a_plan_of_nothing_changes_nothing(from_torch, randomised):
    module = from_torch(_row(randomised, 1), torch.randn(1, 4, 8, 8)).module
    plan = plan_merges(module).model_copy(update={"candidates": ()})
    tvm.ir.assert_structural_equal(make_planned(module, find_folds, plan), module, map_free_vars=True)
    assert reborn_layers(module) == []
