"""Compiling: the same numbers as torch, weights outside the library, records applied and counted."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

import targets
import tuning
from tuning.searching.processor import processor_of

# What a user writes: the TVM runtime alone, in a process that knows nothing of us.
LOADER = """
import sys
import numpy as np
import tvm
from tvm import relax
library, weights, image, result = sys.argv[1:]
machine = relax.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
weights = tvm.runtime.load_param_dict(open(weights, "rb").read())
output = machine["main"](tvm.runtime.tensor(np.load(image)), *(weights[name] for name in sorted(weights)))
np.save(result, output.numpy())
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, net, host: targets.TargetInfo, session) -> Path:
    base = tmp_path_factory.mktemp("records")
    tuning.tune(net.module, host, session, base, tuning.Budget(trials=12))
    return base


@pytest.fixture(scope="module")
def tuned(net, host: targets.TargetInfo, records: Path) -> tuning.Compiled:
    return tuning.compile_module(net.module, host, records)


@pytest.fixture(scope="module")
def untuned(net, host: targets.TargetInfo) -> tuning.Compiled:
    return tuning.compile_module(net.module, host, None)


def test_every_function_has_its_record(tuned: tuning.Compiled) -> None:
    assert tuned.records_applied == tuned.functions_total > 3
    assert tuned.untuned == []


def test_what_was_left_out_of_the_database_is_told(tuned: tuning.Compiled) -> None:
    assert tuned.cleaning == tuning.Cleaning()


def test_without_a_database_every_function_is_named_untuned(untuned: tuning.Compiled) -> None:
    assert untuned.records_applied == 0
    assert len(untuned.untuned) == untuned.functions_total
    assert any("conv2d" in name for name in untuned.untuned)


@pytest.mark.parametrize("which", ["tuned", "untuned"])
def test_a_loader_of_a_few_lines_computes_what_torch_does(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, net
) -> None:
    compiled: tuning.Compiled = request.getfixturevalue(which)
    folder = tmp_path / "Bündel mit Lücken"
    folder.mkdir()
    library, weights, image, result = (
        folder / name for name in ("net.so", "net.params", "image.npy", "result.npy")
    )
    compiled.export(library, weights)
    np.save(image, net.image())
    arguments = [str(path) for path in (library, weights, image, result)]
    subprocess.run([sys.executable, "-c", LOADER, *arguments], check=True, timeout=120)
    np.testing.assert_allclose(np.load(result), net.in_torch(net.image()), rtol=1e-5, atol=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(each).name for each in arguments)


@pytest.fixture(scope="module")
def channels(host: targets.TargetInfo) -> int:
    """The convolution's eight, filled up to whole vectors."""
    lanes = processor_of(host.target()).lanes
    return -(-8 // lanes) * lanes


def test_weights_are_outside_the_library(untuned: tuning.Compiled, net, channels: int) -> None:
    sizes = sorted(value.size for value in untuned.params.values())
    assert sizes == sorted([channels, channels * 27, net.weights["dense"].size])
    assert net.weights["conv"].tobytes() not in untuned.library.read_bytes()


def test_transposed_weights_are_computed_while_compiling(untuned: tuning.Compiled, net) -> None:
    """A schedule may have put them into another layout; then the axis of sums still comes first."""
    rows = [value.reshape(len(value), -1) for value in untuned.params.values()]
    assert any(np.array_equal(value, net.weights["dense"].T) for value in rows)


def test_the_executable_runs_here(tuned: tuning.Compiled, net) -> None:
    machine = relax.VirtualMachine(tuned.executable, tvm.cpu())
    weights = [tvm.runtime.tensor(value) for value in tuned.params.values()]
    output = machine["main"](tvm.runtime.tensor(net.image(1)), *weights).numpy()
    np.testing.assert_allclose(output, net.in_torch(net.image(1)), rtol=1e-5, atol=1e-6)


def test_planned_bytes_hold_the_largest_step_and_not_everything(
    untuned: tuning.Compiled, channels: int
) -> None:
    convolved, pooled = 4 * channels * 12 * 12, 4 * channels * 6 * 6
    assert convolved + pooled <= untuned.planned_bytes < 2 * convolved + pooled


def test_one_weight_used_twice_is_one_parameter(host: targets.TargetInfo) -> None:
    kernel = relax.const(np.ones((3, 3, 1, 1), "float32"))
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 3, 4, 4), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            once = builder.emit(relax.op.nn.conv2d(image, kernel))
            result = builder.emit_output(builder.emit(relax.op.nn.conv2d(once, kernel)))
        builder.emit_func_output(result)
    compiled = tuning.compile_module(builder.get(), host, None)
    assert len(compiled.params) == 1


def test_a_failure_is_told_in_one_line(net, host: targets.TargetInfo, tmp_path: Path) -> None:
    with pytest.raises(tuning.TuningError, match="compiling for host failed: ") as error:
        tuning.compile_module(net.module, dataclasses.replace(host, compiler="false"), None)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_told(untuned: tuning.Compiled, tmp_path: Path) -> None:
    with pytest.raises(tuning.TuningError, match=r"cannot write .*missing.net\.so: No such file"):
        untuned.export(tmp_path / "missing" / "net.so")
