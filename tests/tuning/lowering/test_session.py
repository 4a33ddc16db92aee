"""A session tunes both ways of a layer, and compiling takes the faster one; exact math is the direct one."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

import targets
import tuning
from tuning.searching.budget import TaskState, next_round

TRIALS = 8


@pytest.fixture(scope="module")
def case(layer):
    return layer(inputs=64, outputs=96, height=28, width=28)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def tuned(case, base: Path, host: targets.TargetInfo, session: tuning.LocalSession) -> tuning.TuningResult:
    module = case.module(*case.values()[1:])
    return tuning.tune(module, host, session, base, tuning.Budget(trials=TRIALS))


def convolutions(tuned: tuning.TuningResult) -> list[tuning.TaskResult]:
    """The rest writes the image in its usual layout."""
    return [task for task in tuned.tasks if "conv2d" in task.name]


def test_both_ways_are_tasks_and_the_network_calls_one(tuned: tuning.TuningResult) -> None:
    ways = convolutions(tuned)
    assert sorted("winograd" in task.name for task in ways) == [False, True]
    assert sorted(task.weight for task in ways) == [0, 1]
    assert tuned.network_ms == pytest.approx(sum(task.weight * task.best_us for task in tuned.tasks) / 1e3)
    assert tuned.wrong == tuned.uncompared == ()


def test_the_faster_one_is_compiled(
    tuned: tuning.TuningResult, case, base: Path, host: targets.TargetInfo
) -> None:
    image, weight, bias = case.values()
    compiled = tuning.compile_module(case.module(weight, bias), host, base)
    (called,) = (task.name for task in convolutions(tuned) if task.weight)
    assert compiled.records_applied == compiled.functions_total == 2
    assert any("winograd" in each.name for each in compiled.functions) == ("winograd" in called)
    np.testing.assert_allclose(
        computed(compiled, image), case.in_torch(image, weight, bias), rtol=1e-3, atol=1e-3
    )


def test_exact_math_is_the_direct_way(
    tuned: tuning.TuningResult, case, base: Path, host: targets.TargetInfo
) -> None:
    module = case.module(*case.values()[1:])
    compiled = tuning.compile_module(module, host, base, exact_math=True)
    assert compiled.records_applied == compiled.functions_total == 2
    assert not any("winograd" in each.name for each in compiled.functions)


def test_exact_math_tunes_the_direct_way_only(
    case, tmp_path: Path, host: targets.TargetInfo, session: tuning.LocalSession
) -> None:
    module = case.module(*case.values()[1:])
    result = tuning.tune(module, host, session, tmp_path, tuning.Budget(trials=1), exact_math=True)
    assert ["winograd" in task.name for task in convolutions(result)] == [False]


def test_a_task_far_behind_its_rival_gets_no_more_trials() -> None:
    one, other = TaskState(1, 1e9, heavy=True), TaskState(1, 1e9, heavy=True)
    one.rival, other.rival = other, one
    one.note(1.0)
    assert next_round([one, other], 100)[0] == 1
    other.note(2.0)
    assert next_round([one, other], 100)[0] == 0
    assert (one.calls, other.calls) == (1, 0)
    assert (one.beaten, other.beaten) == (False, True)
    other.note(0.9)
    assert (one.calls, other.calls) == (0, 1)
    assert not one.beaten


def test_a_handicap_has_to_be_made_up_for() -> None:
    direct, other = TaskState(1, 1e9, heavy=True), TaskState(1, 1e9, heavy=True, handicap=1.2)
    direct.rival, other.rival = other, direct
    direct.note(1.0)
    other.note(0.9)
    assert (direct.calls, other.calls) == (1, 0)
    other.note(0.8)
    assert (direct.calls, other.calls) == (0, 1)


def computed(compiled: tuning.Compiled, image: np.ndarray) -> np.ndarray:
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    weights = [tvm.runtime.tensor(compiled.params[name]) for name in sorted(compiled.params)]
    return machine["main"](tvm.runtime.tensor(image), *weights).numpy()
