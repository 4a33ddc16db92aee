"""Plain schedules of the packed convolution compute what torch does, use vectors, and are records."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from codegen.instructions import read_assembly
from codegen.loops import count, inner_loop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
from tuning.lowering.packed.convolution import convolved
from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY, trace_key
from tuning.searching.plain_packed import is_packed, plain_packed_schedules
from tuning.searching.processor import Processor, processor_of
from tuning.searching.space import replay, tune_context

PHONE = tvm.target.Target(
    {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4}
)
SERVER = tvm.target.Target(
    {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "skylake-avx512", "num-cores": 4}
)
SMALL = Processor(lanes=4, registers=16, cores=4)


@dataclass(frozen=True)
class Layer:
    """A convolution of a packed image with a packed second image that is added, and ReLU."""

    inputs: int = 16
    outputs: int = 32
    height: int = 14
    width: int = 14
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    batch: int = 1
    together: int = 8

    @property
    def options(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def values(self) -> list[np.ndarray]:
        """Return image, weights and second image, none of them packed."""
        rng = np.random.default_rng(0)
        image = rng.standard_normal((self.batch, self.inputs, self.height, self.width)).astype("float32")
        weight = rng.standard_normal((self.outputs, self.inputs, self.kernel, self.kernel)).astype("float32")
        shape = self._sums(image, weight).shape
        return [image, weight, rng.standard_normal(shape).astype("float32")]

    def in_torch(self) -> np.ndarray:
        image, weight, other = (each.astype("float64") for each in self.values())
        return np.maximum(self._sums(image, weight).numpy() + other, 0)

    def task(self, target: tvm.target.Target, processor: Processor) -> tuple[IRModule, np.ndarray]:
        """Return its TIR function as tuning sees it, and the weights that it is called with."""
        image, weight, other = self.values()
        shapes = {"image": packed(image, self.together).shape, "other": packed(other, processor.lanes).shape}
        data, added = (relax.Var(name, relax.TensorType(shapes[name], "float32")) for name in shapes)
        builder = relax.BlockBuilder()
        with builder.function("main", [data, added], attrs={"num_input": 2}):
            with builder.dataflow():
                call = relax.op.nn.conv2d(
                    relax.Var("x", relax.TensorType(image.shape, "float32")),
                    relax.const(weight),
                    strides=(self.stride,) * 2,
                    padding=(self.padding,) * 2,
                    dilation=(self.dilation,) * 2,
                )
                y = convolved(builder, data, builder.normalize(call), processor.lanes, processor)
                (constant,) = [each for each in y.args[1] if not isinstance(each, relax.Var)]
                y = builder.emit(relax.op.add(builder.emit(y), added))
                result = builder.emit_output(relax.op.nn.relu(y))
            builder.emit_func_output(result)
        (task,) = ms.relax_integration.extract_tasks(
            prepare(builder.get(), target), target, module_equality=MODULE_EQUALITY
        )
        return task.dispatched[0], constant.value.numpy()

    def _sums(self, image: np.ndarray, weight: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.conv2d(torch.from_numpy(image), torch.from_numpy(weight), **self.options)


def packed(image: np.ndarray, block: int) -> np.ndarray:
    """Return an image with NaN beyond its channels."""
    batch, channels, height, width = image.shape
    filled = np.full((batch, -(-channels // block) * block, height, width), np.nan, "float32")
    filled[:, :channels] = image
    return np.ascontiguousarray(np.moveaxis(filled.reshape(batch, -1, block, height, width), 2, -1))


def candidates(
    task: IRModule, target: tvm.target.Target, processor: Processor
) -> list[MeasureCandidate | None]:
    context = tune_context(task, target, heavy=True)
    return [replay(task, each.trace, context) for each in plain_packed_schedules(task, processor, 4)]


def computed(
    candidate: MeasureCandidate, case: Layer, weight: np.ndarray, lanes: int, target: tvm.target.Target
) -> np.ndarray:
    """Return the image, not packed; weights are rearranged when the function is called."""
    image, _, other = case.values()
    output = tvm.runtime.tensor(np.full(packed(other, lanes).shape, np.nan, "float32"))
    arguments = [packed(image, case.together), weight, packed(other, lanes)]
    tvm.compile(candidate.sch.mod, target)["main"](*map(tvm.runtime.tensor, arguments), output)
    batch, blocks, height, width, block = output.shape
    joined = np.moveaxis(output.numpy(), -1, 2).reshape(batch, blocks * block, height, width)
    return joined[:, : case.outputs]


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    return Layer(
        inputs=draw(st.integers(1, 24)),
        outputs=draw(st.sampled_from([1, 4, 7, 16, 24, 40, 56])),
        height=draw(st.integers(9, 17)),
        width=draw(st.integers(9, 30)),
        kernel=draw(st.sampled_from([1, 1, 2, 3])),
        stride=draw(st.sampled_from([1, 1, 2])),
        dilation=draw(st.sampled_from([1, 1, 2])),
        padding=draw(st.integers(0, 2)),
        batch=draw(st.sampled_from([1, 1, 2])),
        together=draw(st.sampled_from([1, 4, 8])),
    )


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=layers(), processor=st.sampled_from([None, SMALL]))
def test_they_compute_what_torch_does(
    host: targets.TargetInfo, case: Layer, processor: Processor | None
) -> None:
    processor = processor or processor_of(host.target())
    task, weight = case.task(host.target(), processor)
    assert is_packed(task)
    found = candidates(task, host.target(), processor)
    assert found
    assert None not in found
    for each in (found[0], found[-1]):
        got = computed(each, case, weight, processor.lanes, host.target())
        np.testing.assert_allclose(got, case.in_torch(), rtol=1e-4, atol=1e-4)


IMAGE = {"inputs": 3, "outputs": 64, "height": 64, "width": 64, "kernel": 7, "padding": 3, "together": 1}
DEEP = {"inputs": 512, "outputs": 32, "height": 7, "width": 7, "padding": 1}
WIDE = {"inputs": 64, "outputs": 250, "height": 13, "width": 13, "kernel": 1}


@pytest.mark.parametrize("sizes", [{"width": 13}, {**IMAGE, "stride": 2}, DEEP, WIDE], ids=str)
def test_code_for_a_phone_multiplies_vectors_only_and_keeps_sums_in_registers(sizes: dict) -> None:
    counts = count(inner_loop(read_assembly(code_of(Layer(**{"together": 4, **sizes}), PHONE))).body)
    assert counts.in_vectors >= 48
    assert counts.in_scalars == 0
    assert counts.instructions / counts.multiply_adds < 0.4


@pytest.mark.parametrize("sizes", [{"width": 13}, {**IMAGE, "stride": 2}, DEEP, WIDE], ids=str)
def test_code_for_a_server_multiplies_vectors_only_and_keeps_sums_in_registers(sizes: dict) -> None:
    code = code_of(Layer(**{"together": 16, **sizes}), SERVER)
    assert len(re.findall(r"vfmadd\d+ps.*%zmm", code)) >= 48
    assert not re.findall(r"vfmadd\d+ss", code)
    assert len(re.findall(r"vmov.*%zmm\d+, .*\(%r[sb]p\)", code)) <= 32


def code_of(case: Layer, target: tvm.target.Target) -> str:
    """Return the code of the first candidate."""
    processor = processor_of(target)
    first = candidates(case.task(target, processor)[0], target, processor)[0]
    return tvm.compile(first.sch.mod, target).mod.inspect_source("asm")


def test_no_sum_is_kept_waiting_by_a_condition(host: targets.TargetInfo) -> None:
    task, _ = Layer(**WIDE).task(PHONE, SMALL)
    script = candidates(task, PHONE, SMALL)[0].sch.mod.script()
    update = script[script.index("packed_sums_update") :]
    assert "T.where" not in update[: update.index("T.reads")]


def test_a_record_of_one_is_read_again(tmp_path: Path, host: targets.TargetInfo) -> None:
    case, processor = Layer(**DEEP), processor_of(host.target())
    task, weight = case.task(host.target(), processor)
    files = [str(tmp_path / name) for name in ("workloads.json", "records.json")]
    database = ms.database.JSONDatabase(*files)
    workload = database.commit_workload(task)
    written = candidates(task, host.target(), processor)
    for each in written:
        record = ms.database.TuningRecord(each.sch.trace, workload, [1.0], host.target(), each.args_info)
        database.commit_tuning_record(record)
    read = [each.as_measure_candidate() for each in ms.database.JSONDatabase(*files).get_all_tuning_records()]
    keys = [{trace_key(each.sch.trace) for each in found} for found in (written, read)]
    assert keys[0] == keys[1]
    got = computed(read[0], case, weight, processor.lanes, host.target())
    np.testing.assert_allclose(got, case.in_torch(), rtol=1e-4, atol=1e-4)


def test_weights_are_rearranged_when_the_network_is_built(host: targets.TargetInfo) -> None:
    processor = processor_of(host.target())
    task, weight = Layer().task(host.target(), processor)
    first = candidates(task, host.target(), processor)[0]
    assert re.findall(r"layout_free_buffers\": \[1\]", task.script())
    assert [list(map(int, each.shape)) for each in first.args_info][1] != list(weight.shape)
