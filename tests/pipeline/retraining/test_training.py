"""Training batch by batch: gradients in parts, too little memory, numbers that are not finite, going on."""

import copy
import io
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import tvm
from torch import Tensor

from pipeline.data import Batch
from pipeline.importer import load_network
from pipeline.retraining.objective import label_loss
from pipeline.retraining.processes import Processes
from pipeline.retraining.recipes import RECIPES
from pipeline.retraining.student import Student
from pipeline.retraining.traced import Traced
from pipeline.retraining.training import Lesson, NotEnoughMemory, Training, TrainingFailed
from pipeline.twin import evaluate
from relay_passes import MergePlan, exact_only, inline_composites, make_merges, plan_merges

FITTED, PAPER = RECIPES["fitted"], RECIPES["paper"]


@pytest.fixture(scope="module")
def merged(original: tvm.IRModule) -> tuple[Student, list]:
    """The first block merged, and its features."""
    plan = plan_merges(original)
    step = MergePlan(candidates=tuple(each for each in plan.candidates if each.name in ("block_a", "pool2")))
    student, _, features = Student.of(original).merged(step, None)
    return student, features


@pytest.fixture
def start(merged, original):
    """A function that makes a training of the student, and what it is told."""
    student, features = merged

    def make(recipe=FITTED, *, loss=None, rate=0.05, batches=20, new=(), traced=None) -> Training:
        traced = traced or Traced(student.module, [each.student for each in features])
        teacher = Traced(original, [each.original for each in features])
        lesson = Lesson(teacher, features, ("classes",), loss or label_loss(("classes",)), recipe)
        said: list[str] = []
        training = Training(traced, lesson, set(new), batches, rate, Processes(), said.append)
        training.said = said
        return training

    return make


def weights(training: Training) -> list[Tensor]:
    return [each.detach().clone() for each in training.student.twin.parameters()]


def changes(training: Training, batch: Batch) -> list[Tensor]:
    before = weights(training)
    training.learn(batch)
    return [after - old for after, old in zip(weights(training), before, strict=True)]


def joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([each.reshape(-1) for each in tensors])


class Short:
    """A student with memory for so many samples only."""

    def __init__(self, training: Training, most: int, error: Exception):
        self.forward, self.most, self.error = training.student.forward, most, error
        self.sizes: list[int] = []

    def __call__(self, *inputs: Tensor):
        if len(inputs[0]) > self.most:
            raise self.error
        self.sizes.append(len(inputs[0]))
        return self.forward(*inputs)


def short_of_memory(training: Training, most: int, error: Exception) -> Short:
    short = Short(training, most, error)
    training.student.forward = short
    return short


OUT = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("recipe", [FITTED, PAPER])
@pytest.mark.parametrize(("most", "sizes"), [(6, [6, 6]), (5, [3] * 4), (1, [1] * 12)])
def test_parts_give_the_gradients_of_the_whole_batch(start, batch, recipe, most, sizes):
    whole, parts = start(recipe), start(recipe)
    short = short_of_memory(parts, most, OUT[0])
    step, step_in_parts = joined(changes(whole, batch)), joined(changes(parts, batch))
    assert short.sizes == sizes
    assert float((step - step_in_parts).abs().max() / step.abs().max()) < 1e-5


def test_a_batch_that_cannot_be_halved_evenly(start, batch):
    batch = Batch(tuple(each[:7] for each in batch.inputs), batch.labels[:7])
    whole, parts = start(), start()
    short = short_of_memory(parts, 3, OUT[0])
    step, step_in_parts = joined(changes(whole, batch)), joined(changes(parts, batch))
    assert short.sizes == [2, 2, 2, 1]
    assert float((step - step_in_parts).abs().max() / step.abs().max()) < 1e-5


@pytest.mark.parametrize("error", OUT)
def test_too_little_memory_is_told_once(start, batch, error):
    training = start()
    short_of_memory(training, 6, error)
    losses = training.learn(batch)
    training.learn(batch)
    assert training.said == [
        "not enough memory for 12 samples at a time: going on with 6, and as many in a batch as before"
    ]
    assert training.iteration == 2
    assert losses.total == pytest.approx(sum(losses.parts.values()))


def test_losses_are_those_of_the_whole_batch(start, batch):
    whole, parts = start(), start()
    short_of_memory(parts, 4, OUT[0])
    assert parts.learn(batch).parts == pytest.approx(whole.learn(batch).parts, rel=1e-5)


def test_not_even_one_sample(start, batch):
    training = start()
    short_of_memory(training, 0, OUT[0])
    with pytest.raises(NotEnoughMemory, match="not enough memory to train on 1 samples at a time"):
        training.learn(batch)


def test_other_errors_stay(start, batch):
    training = start()
    short_of_memory(training, 0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        training.learn(batch)


LIMITED = """
import resource, sys, torch
from torch import nn
from pipeline.data import Batch
from pipeline.retraining.objective import Values, label_loss
from pipeline.retraining.processes import Processes
from pipeline.retraining.recipes import RECIPES
from pipeline.retraining.training import Lesson, Training

class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.twin = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                                  nn.Linear(64 * 32 * 32, 3))
    def forward(self, x):
        y = (self.twin(x),)
        return Values(y, y, {})

torch.set_num_threads(1)
student, samples = Student(), 64
lesson = Lesson(None, (), ("classes",), label_loss(("classes",)), RECIPES["paper"])
training = Training(student, lesson, set(), 9, 0.01, Processes(), lambda line: print(line, flush=True))
batch = Batch((torch.rand(samples, 1, 64, 64),), torch.arange(samples) % 3)
training.learn(Batch((batch.inputs[0][:4],), batch.labels[:4]))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
training.learn(batch)
training.learn(batch)
print("learnt", training.iteration)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on address space is Linux's")
def test_memory_that_really_runs_out():
    child = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    *told, last = child.stdout.splitlines()
    assert told
    assert told[0].startswith("not enough memory for 64 samples at a time: going on with 32")
    assert last == "learnt 3"


@pytest.mark.parametrize("layer", ["conv1", "block_b.conv3x3", "classifier"])
def test_a_weight_that_is_no_number(start, batch, layer):
    training = start()
    with torch.no_grad():
        training.student.twin.get_parameter(training.student.twin.layers[layer][0])[-1] = math.nan
    before = weights(training)
    with pytest.raises(
        TrainingFailed, match=f"loss is nan after 0 batches; the weights of layer {layer} are"
    ):
        training.learn(batch)
    assert all(map(torch.equal, before[1:2], weights(training)[1:2]))


def test_data_that_is_no_number(start, batch):
    batch.inputs[0][3, 0, 2, 2] = math.inf
    with pytest.raises(TrainingFailed, match="the data holds numbers that are not finite: mend the data"):
        start().learn(batch)


def test_a_layer_that_overflows(start, batch):
    training = start()
    with torch.no_grad():
        for name in ("block_a.conv3x3", "block_b.conv1x1"):
            training.student.twin.get_parameter(training.student.twin.layers[name][0]).fill_(1e38)
    with pytest.raises(TrainingFailed, match=r"it begins in layer \S+"):
        training.learn(batch)


def test_labels_whose_loss_is_no_number(start, batch):
    training = start(loss=lambda logits, labels: logits[0].sum() * math.nan)
    with pytest.raises(
        TrainingFailed, match=r"the label loss is nan .*look at the labels and the loss on them"
    ):
        training.learn(batch)


@pytest.mark.parametrize("recipe", [FITTED, PAPER])
def test_gradients_that_are_no_numbers(start, batch, recipe):
    """The root of zero: a finite loss, an infinite slope."""
    training = start(recipe, loss=lambda logits, labels: (logits[0] * 0).abs().sqrt().sum())
    before = weights(training)
    with pytest.raises(
        TrainingFailed, match="the gradients are not finite after 0 batches, from layer classifier"
    ):
        training.learn(batch)
    assert all(map(torch.equal, before, weights(training)))


def test_the_loss_falls(start, batch):
    training = start()
    losses = [training.learn(batch).total for _ in range(20)]
    assert losses[-1] < losses[0] / 2


def test_one_batch_is_one_step_of_sgd(start, batch):
    """Of plain SGD with momentum, by hand; new layers ten times as fast."""
    new = {name for name, _ in start().student.twin.named_parameters() if name.startswith("classifier")}
    assert new
    recipe = replace(PAPER, weight_decay=0.01, schedule=lambda done: 1 - done)
    training = start(recipe, rate=0.1, batches=4, new=new)
    reference = copy.deepcopy(training.student)
    momenta = [torch.zeros_like(each) for each in reference.twin.parameters()]
    for iteration in range(3):
        loss = label_loss(("classes",))(reference(*batch.inputs).logits, batch.labels)
        found = torch.autograd.grad(loss, list(reference.twin.parameters()))
        for (name, parameter), gradient, momentum in zip(
            reference.twin.named_parameters(), found, momenta, strict=True
        ):
            rate = 0.1 * (1 - iteration / 4) * (10 if name in new else 1)
            gradient = gradient + 0.01 * parameter.detach()
            momentum.mul_(0.9).add_(gradient)
            with torch.no_grad():
                parameter -= rate * momentum
        assert training.learn(batch).total == pytest.approx(float(loss), rel=1e-4)
    wanted = [each.detach() for each in reference.twin.parameters()]
    torch.testing.assert_close(weights(training), wanted, rtol=1e-3, atol=1e-5)


def test_the_running_mean_of_the_weights(start, batch):
    training = start()
    mean = [each.double() for each in weights(training)]
    for iteration in range(1, 6):
        training.learn(batch)
        kept = min(FITTED.averaging, iteration / (iteration + 10))
        mean = [kept * old + (1 - kept) * new for old, new in zip(mean, weights(training), strict=True)]
    own = weights(training)
    with training.averaged_weights():
        torch.testing.assert_close([each.double() for each in weights(training)], mean, rtol=1e-4, atol=1e-6)
    assert all(map(torch.equal, own, weights(training)))
    training.finish()
    torch.testing.assert_close([each.double() for each in weights(training)], mean, rtol=1e-4, atol=1e-6)


def test_without_a_mean_the_weights_are_what_counts(start, batch):
    training = start(PAPER)
    training.learn(batch)
    own = weights(training)
    with training.averaged_weights():
        assert all(map(torch.equal, own, weights(training)))
    training.finish()
    assert all(map(torch.equal, own, weights(training)))


@pytest.mark.parametrize("recipe", [FITTED, PAPER])
def test_going_on_to_the_bit(start, batch, recipe):
    """Through a file, as a checkpoint goes."""
    unbroken, broken = start(recipe), start(recipe)
    for training in (unbroken, broken):
        for _ in range(3):
            training.learn(batch)
    buffer = io.BytesIO()
    torch.save(broken.state(), buffer)
    buffer.seek(0)
    again = start(recipe)
    again.restore(torch.load(buffer, weights_only=True))
    assert again.iteration == 3
    for training in (unbroken, again):
        for _ in range(3):
            training.learn(batch)
        training.finish()
    assert all(map(torch.equal, weights(unbroken), weights(again)))


def test_parts_are_remembered(start, batch):
    training, again = start(), start()
    short_of_memory(training, 6, OUT[0])
    training.learn(batch)
    again.restore(training.state())
    short = short_of_memory(again, 6, OUT[0])
    again.learn(batch)
    assert (again.said, short.sizes) == ([], [6, 6])


def test_what_was_trained_is_what_is_compiled(start, batch):
    training = start()
    for _ in range(5):
        training.learn(batch)
    training.finish()
    module = training.student.write_back()
    image = batch.inputs[0][:1].numpy()
    with torch.no_grad():
        wanted = training.student(batch.inputs[0][:1]).outputs[0].numpy()
    built = tvm.compile(inline_composites(module), tvm.target.Target("llvm"))
    found = tvm.relax.VirtualMachine(built, tvm.cpu())["main"](tvm.runtime.tensor(image)).numpy()
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(evaluate(module, [image])[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_whole_network_may_be_trained(files, batch):
    """As after the last step: no features, no new layers."""
    module = make_merges(load_network(files.chain).module, choice=exact_only).module
    lesson = Lesson(Traced(module), (), ("classes",), label_loss(("classes",)), FITTED)
    training = Training(Traced(module), lesson, set(), 4, 0.01, Processes(), lambda line: None)
    losses = training.learn(batch)
    assert losses.parts.keys() == {"distillation", "label"}
    assert losses.parts["distillation"] == pytest.approx(0, abs=1e-5)
