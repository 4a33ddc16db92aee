"""PyTorch: modules, exported programs and archives; what TVM gets wrong is put right or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import ImportRefused, ShapeNeeded, UserError
from pipeline.importer import load_network
from pipeline.network import Network
from pipeline.twin import evaluate

IMAGE = (1, 3, 17, 17)


class Lambda(nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape or IMAGE, generator=torch.Generator().manual_seed(0))


def load(module: nn.Module, x: torch.Tensor | None = None) -> Network:
    return load_network(module.eval(), example_inputs=image() if x is None else x)


def refusal(function: Callable, error: type[UserError] = ImportRefused) -> str:
    with pytest.raises(error) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    ).eval()


def dynamic() -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch")}
    return torch.export.export(small(), (image(2, 3, 8, 8),), dynamic_shapes=(batch,))


@pytest.mark.parametrize(
    "module",
    [
        nn.AvgPool2d(3, 2, 1, divisor_override=5),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=1),
        nn.AvgPool2d(2, 2, 1, ceil_mode=True),
        nn.MaxPool2d(2, 2, 1, ceil_mode=True),
        nn.MaxPool2d(3, 2, 1, dilation=2),
        nn.AdaptiveAvgPool2d(5),
        nn.LocalResponseNorm(5),
        nn.PReLU(3),
        nn.ReLU6(),
        nn.Hardswish(),
        nn.GELU(),
        nn.InstanceNorm2d(3, affine=True),
        nn.GroupNorm(3, 3),
        nn.Conv2d(3, 4, 4, padding="same", dilation=2),
        nn.ConvTranspose2d(3, 6, 3, 2, 1, 1, groups=3),
        nn.Upsample(size=(23, 31)),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(size=(23, 31), mode="bilinear", align_corners=True),
        nn.ConstantPad2d(2, 1.5),
        nn.Dropout(),
        Lambda(lambda x: torch.cat(torch.chunk(x, 3, 1)[::-1], 1)),
        Lambda(lambda x: x.amax((2, 3))),
        Lambda(lambda x: x[:, 1:, ::2, :5]),
        Lambda(lambda x: F.pixel_shuffle(torch.cat([x, x[:, :1]], 1), 2)),
    ],
    ids=str,
)
def test_the_module_computes_what_torch_computes(module):
    network = load(module)
    with torch.no_grad():
        wanted = module(image()).numpy()
    (found,) = evaluate(network.module, [image().numpy()])
    assert network.outputs[0].shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_layers_are_called_after_the_users_weights():
    module = nn.Sequential()
    module.add_module("stem", nn.Conv2d(3, 4, 3))
    module.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(900, 2)))
    bound = load(module).module["main"].body.blocks[0].bindings
    names = [binding.var.name for binding in bound]
    assert "stem" in names
    assert "head.1" in names


def test_values_before_the_softmax_are_kept():
    network = load(nn.Sequential(nn.Flatten(), nn.Linear(867, 4), nn.Softmax(1)))
    logits = torch.from_numpy(network.golden.logits["output"])
    np.testing.assert_allclose(logits.softmax(1).numpy(), network.golden.outputs["output"], rtol=1e-5)
    assert not np.allclose(logits.numpy(), network.golden.outputs["output"])


def test_several_outputs_keep_their_order():
    network = load(Lambda(lambda x: (x + 1, x.mean((2, 3)))))
    assert [(output.name, output.shape) for output in network.outputs] == [
        ("output_0", IMAGE),
        ("output_1", (1, 3)),
    ]


def test_example_inputs_are_the_golden_inputs():
    np.testing.assert_array_equal(load(small(), image(1, 3, 8, 8)).golden.inputs["input"], image(1, 3, 8, 8))


def test_a_module_may_be_given_with_sizes_alone():
    first, again, other = (
        load_network(small(), input_shapes={"input": (1, 3, 8, 8)}, seed=seed).golden.inputs["input"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_module_without_inputs_or_sizes_is_told():
    assert "example_inputs" in refusal(lambda: load_network(small()), UserError)


def test_example_inputs_that_do_not_fit_are_told():
    program = torch.export.export(small(), (image(1, 3, 8, 8),))
    message = refusal(lambda: load_network(program, example_inputs=image(1, 3, 9, 9)))
    assert "do not fit" in message


# Training mode, I8


def test_a_module_in_training_mode_is_refused():
    assert "call eval()" in refusal(lambda: load_network(small().train(), example_inputs=image(1, 3, 8, 8)))


def test_one_layer_in_training_mode_is_refused_by_name():
    module = small()
    module[1].train()
    assert "1 of Sequential" in refusal(lambda: load_network(module, example_inputs=image(1, 3, 8, 8)))


def test_a_program_exported_in_training_mode_is_refused():
    program = torch.export.export(small().train(), (image(2, 3, 8, 8),))
    message = refusal(lambda: load_network(program))
    assert "training mode" in message
    assert "(1)" in message


def test_batch_norm_without_statistics_is_refused_by_name():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    message = refusal(lambda: load(module, image(2, 3, 8, 8)))
    assert "(1): batch norm without running statistics" in message


def test_batch_statistics_at_run_time_are_refused():
    function = Lambda(lambda x: F.batch_norm(x, None, None, training=True))
    assert "batch norm without running statistics" in refusal(lambda: load(function))


# Refused operators, I4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_refused(dtype):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(dtype)
    message = refusal(lambda: load(module, image().to(dtype)))
    assert message == f"0 computes in {str(dtype).removeprefix('torch.')}: export the model in float32"


def test_a_divisor_of_three_axes_is_refused():
    message = refusal(lambda: load(nn.AvgPool3d(2, divisor_override=3), image(1, 3, 4, 4, 4)))
    assert "divisor_override" in message


def test_example_inputs_that_are_no_tensors_are_told():
    message = refusal(lambda: load_network(small(), example_inputs=([image()],)), UserError)
    assert "not list" in message


def test_a_divisor_with_ceil_mode_is_refused():
    module = nn.AvgPool2d(3, 2, 1, divisor_override=5, ceil_mode=True)
    assert "divisor_override with ceil_mode" in refusal(lambda: load(module))


def test_used_indices_of_a_max_pool_are_refused():
    assert "its indices are used" in refusal(lambda: load(nn.MaxPool2d(2, return_indices=True)))


def test_unused_indices_are_fine():
    load(Lambda(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]))


def test_all_unsupported_operators_are_named_with_their_layers():
    module = nn.Sequential(nn.AdaptiveMaxPool2d(4), nn.FractionalMaxPool2d(2, 3), nn.Conv2d(3, 3, 1))
    message = refusal(lambda: load(module))
    assert "adaptive_max_pool2d.default (0)" in message
    assert "fractional_max_pool2d.default (1)" in message


def test_recurrent_layers_are_named():
    module = nn.Sequential(nn.Flatten(2), nn.LSTM(289, 4))
    assert "lstm.input (1)" in refusal(lambda: load(module))


def test_random_operators_are_refused():
    assert "rand_like" in refusal(lambda: load(Lambda(lambda x: x + torch.rand_like(x))))


def test_a_module_torch_cannot_export_is_told():
    assert "torch.export cannot export" in refusal(lambda: load(Lambda(lambda x: x if x.sum() > 0 else -x)))


# Sizes


def test_a_symbolic_size_is_refused_with_input_and_dimension():
    message = refusal(lambda: load_network(dynamic()), ShapeNeeded)
    for part in ("'input'", "dimension 0", "--input-shape input:1x3x8x8"):
        assert part in message


def test_a_symbolic_size_is_fixed():
    network = load_network(dynamic(), input_shapes={"input": (3, 3, 8, 8)})
    assert network.inputs[0].shape == (3, 3, 8, 8)
    assert network.outputs[0].shape == (3, 5)
    assert network.module["main"].body.blocks[0].bindings[0].var.name == "0"


@pytest.mark.parametrize("shapes", [{"other": (1, 3, 8, 8)}, {"input": (1, 3, 9, 8)}])
def test_sizes_that_do_not_fit_are_told(shapes):
    program = torch.export.export(small(), (image(1, 3, 8, 8),))
    assert next(iter(shapes)) in refusal(lambda: load_network(program, input_shapes=shapes))


# Archives


def test_an_archive_is_its_module(tmp_path: Path):
    path = tmp_path / "réseau un.pt2"
    torch.export.save(torch.export.export(small(), (image(1, 3, 8, 8),)), path)
    network = load_network(path)
    assert network.name == "réseau un"
    assert network.framework == "torch"
    assert network.source_digest.startswith("sha256:")
    np.testing.assert_array_equal(network.golden.inputs["input"], image(1, 3, 8, 8))
    with torch.no_grad():
        np.testing.assert_array_equal(network.golden.outputs["output"], small()(image(1, 3, 8, 8)).numpy())


def test_a_dynamic_archive_takes_its_size_from_the_user(tmp_path: Path):
    path = tmp_path / "dynamic.pt2"
    torch.export.save(dynamic(), path)
    refusal(lambda: load_network(path), ShapeNeeded)
    assert load_network(path, input_shapes={"input": (1, 3, 8, 8)}).outputs[0].shape == (1, 5)
