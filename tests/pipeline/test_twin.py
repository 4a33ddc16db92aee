"""The twin as a whole: names, gradients, going back into a Relax module, refusals."""

import copy

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax import op

from pipeline.twin import Twin, UnsupportedOperators, evaluate

SHAPE = (2, 3, 8, 8)


def constant(*shape: int, seed: int = 0) -> relax.Expr:
    return relax.const(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def layer(builder: relax.BlockBuilder, name: str, value: relax.Expr) -> relax.Var:
    value = builder.normalize(value)
    var = relax.DataflowVar(name, value.ty)
    builder.emit_normalized(relax.VarBinding(var, value))
    return var


def module(body) -> tvm.IRModule:
    """A module whose `main` computes `body(builder, x)`."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    return builder.get()


@pytest.fixture
def network() -> tvm.IRModule:
    """Two convolutions that share a weight, as conv1/3x3.a and conv2."""
    weight = constant(3, 3, 3, 3)

    def body(builder, x):
        first = layer(builder, "conv1/3x3.a", op.nn.conv2d(x, weight, padding=1))
        biased = layer(builder, "conv1/3x3.a.bias", op.add(first, constant(1, 3, 1, 1, seed=1)))
        second = layer(builder, "conv2", op.nn.conv2d(op.nn.relu(biased), weight, padding=1))
        scaled = layer(builder, "half", op.multiply(second, relax.const(0.5, "float32")))
        return relax.Tuple([scaled, biased])

    return module(body)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).normal(size=SHAPE).astype("float32"))


def test_weights_are_parameters_called_after_their_layers(network):
    twin = Twin(network)
    assert [name for name, _ in twin.named_parameters()] == ["conv1/3x3_a:weight", "conv1/3x3_a_bias:bias"]
    assert [name for name, _ in twin.named_buffers()] == ["half:scale"]


def test_a_shared_weight_is_one_parameter_of_both_layers(network):
    layers = Twin(network).layers
    assert layers["conv1/3x3.a"] == layers["conv2"] == ("conv1/3x3_a:weight",)


def test_the_result_is_that_of_torch(network, x):
    twin = Twin(network)
    weight, bias = (parameter.detach() for parameter in twin.parameters())
    conv = torch.nn.functional.conv2d
    biased = conv(x, weight, padding=1) + bias
    scaled, second = twin(x)
    torch.testing.assert_close(second, biased)
    torch.testing.assert_close(scaled, conv(biased.relu(), weight, padding=1) / 2)


def test_gradients_reach_all_parameters(network, x):
    twin = Twin(network)
    twin(x)[0].square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in twin.parameters())


def test_training_goes_back_into_the_module(network, x):
    twin = Twin(network)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.01)
    twin(x)[0].square().mean().backward()
    optimizer.step()
    trained = twin.write_back(network)
    wanted = [output.detach().numpy() for output in twin(x)]
    before = evaluate(network, [x.numpy()])
    for found, output, old in zip(evaluate(trained, [x.numpy()]), wanted, before, strict=True):
        np.testing.assert_array_equal(found, output)
        assert not np.array_equal(found, old)


def test_writing_back_keeps_names_and_attributes(network):
    network = network.with_attr("deeprebirth.reborn", ["conv2"])
    written = Twin(network).write_back(network)
    assert list(written.attrs["deeprebirth.reborn"]) == ["conv2"]
    assert Twin(written).layers == Twin(network).layers


def test_another_module_is_not_written_to(network):
    other = module(lambda builder, x: layer(builder, "conv", op.nn.conv2d(x, constant(1, 3, 3, 3))))
    with pytest.raises(ValueError, match="not those the twin was made from"):
        Twin(network).write_back(other)


def test_a_copy_is_independent(network, x):
    twin = Twin(network)
    twin_copy = copy.deepcopy(twin)
    with torch.no_grad():
        next(twin_copy.parameters()).zero_()
    assert not torch.equal(twin(x)[0], twin_copy(x)[0])


def test_values_of_layers_are_returned_on_demand(network, x):
    scaled, biased, again = evaluate(network, [x.numpy()], at=["conv1/3x3.a.bias"])
    assert scaled.shape == SHAPE
    np.testing.assert_array_equal(biased, again)


def test_an_unknown_layer_is_named(network, x):
    with pytest.raises(KeyError, match="no layer is called nowhere"):
        evaluate(network, [x.numpy()], at=["nowhere"])


def test_all_unsupported_operators_are_named():
    def body(builder, x):
        first = layer(builder, "first", op.cumsum(x, 1))
        second = layer(builder, "second", op.nn.max_pool2d(first, layout="NHWC"))
        return layer(builder, "third", op.cumsum(second, 1))

    with pytest.raises(UnsupportedOperators) as caught:
        Twin(module(body))
    message = str(caught.value)
    assert "cumsum in first, third" in message
    assert "nn.max_pool2d (layout NHWC instead of NCHW) in second" in message
    assert "\n" not in message


def with_private_function(attributes: dict) -> tvm.IRModule:
    """x -> f(x) + 1, where f doubles its argument."""
    builder = relax.BlockBuilder()
    y = relax.Var("y", relax.TensorType(SHAPE, "float32"))
    with builder.function("f", [y], attrs={"Primitive": True, **attributes}, private=True):
        with builder.dataflow():
            doubled = builder.emit_output(op.multiply(y, relax.const(2.0, "float32")))
        builder.emit_func_output(doubled)
    callee = builder.get().get_global_var("f")
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            called = builder.emit(relax.Call(callee, [x]))
            result = builder.emit_output(op.add(called, relax.const(1.0, "float32")))
        builder.emit_func_output(result)
    return builder.get()


def test_a_private_function_is_followed(x):
    (found,) = evaluate(with_private_function({}), [x.numpy()])
    np.testing.assert_allclose(found, 2 * x.numpy() + 1, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_lrn_is_that_of_its_attributes(x, size):
    attributes = {"Composite": "deeprebirth.lrn", "size": size, "alpha": 0.3, "beta": 0.75, "bias": 2.0}
    (found,) = evaluate(with_private_function(attributes), [x.numpy()])
    values, reach = x.numpy(), size // 2
    sums = np.stack(
        [np.square(values[:, max(0, c - reach) : c + reach + 1]).sum(1) for c in range(SHAPE[1])], axis=1
    )
    np.testing.assert_allclose(found, values / (2.0 + 0.3 / size * sums) ** 0.75 + 1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_any_number_of_samples(samples):
    """A module made for one sample, with the shapes of reshapes written out."""

    def body(builder, x):
        first = layer(builder, "conv", op.nn.conv2d(x, constant(4, 3, 3, 3), padding=1))
        groups = layer(builder, "groups", op.reshape(first, (1, 2, 2, 8, 8)))
        shuffled = layer(builder, "shuffled", op.permute_dims(groups, [0, 2, 1, 3, 4]))
        flat = layer(builder, "flat", op.reshape(shuffled, (1, 256)))
        return layer(builder, "dense", op.matmul(flat, constant(256, 3)))

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 3, 8, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    single = builder.get()
    images = np.random.default_rng(1).normal(size=(samples, 3, 8, 8)).astype("float32")
    together, values = Twin(single).run([torch.from_numpy(images)], ["shuffled"])
    alone = [evaluate(single, [images[i : i + 1]], ["shuffled"]) for i in range(samples)]
    for found, parts in zip((*together, values["shuffled"]), zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(found.detach(), np.concatenate(parts), rtol=1e-5, atol=1e-5)


def test_gradients_of_a_batch_are_those_of_its_samples(network, x):
    whole, parts = Twin(network), Twin(network)
    whole(x)[0].square().sum().backward()
    for sample in x.split(1):
        parts(sample)[0].square().sum().backward()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-3)
