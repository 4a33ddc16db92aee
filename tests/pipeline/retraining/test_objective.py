"""Each loss against the formula in numpy; what fits no output is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.retraining.objective import (
    TEMPERATURE,
    Values,
    distillation_loss,
    feature_loss,
    label_loss,
    loss_of_user,
    mean_squares,
)


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def values(*logits: torch.Tensor) -> Values:
    return Values(logits, logits, {})


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


def doubles(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [each.double().numpy().reshape(len(each), -1) for each in tensors]


def test_features_count_relative_to_the_original():
    image, row = (4, 3, 5, 5), (4, 7)
    pairs = [(random(*image), random(*image, seed=1)), (random(*row), random(*row, seed=2, scale=100))]
    wanted = sum(((a - b) ** 2).mean() / (b**2).mean() for a, b in (doubles(*pair) for pair in pairs))
    assert float(feature_loss(pairs)) == pytest.approx(wanted, rel=1e-5)


def test_no_feature_costs_nothing():
    assert float(feature_loss([])) == 0


def test_a_feature_that_is_zero_gives_a_finite_number():
    assert torch.isfinite(feature_loss([(torch.ones(2, 3), torch.zeros(2, 3))]))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1, 1)])
def test_distillation_of_classes(shape):
    ours, wanted = random(*shape, scale=3), random(*shape, seed=1, scale=3)
    s, t = (softmax(each / TEMPERATURE) for each in doubles(ours, wanted))
    divergence = TEMPERATURE**2 * (t * (np.log(t) - np.log(s))).sum(1).mean()
    found = distillation_loss(values(ours), values(wanted), ["classes"])
    assert float(found) == pytest.approx(divergence, rel=1e-4)


def test_distillation_of_probabilities():
    ours, wanted = random(6, 5), random(6, 5, seed=1)
    s, t = (sigmoid(each) for each in doubles(ours, wanted))
    divergence = (t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))).sum() / 6
    found = distillation_loss(values(ours), values(wanted), ["probabilities"])
    assert float(found) == pytest.approx(divergence, rel=1e-4)


def test_distillation_of_values():
    ours, wanted = random(6, 5), random(6, 5, seed=1, scale=9)
    a, b = doubles(ours, wanted)
    found = distillation_loss(values(ours), values(wanted), ["values"])
    assert float(found) == pytest.approx(((a - b) ** 2).mean() / (b**2).mean(), rel=1e-5)


def test_several_outputs_are_added():
    ours, wanted = [random(4, 3), random(4, 2)], [random(4, 3, seed=1), random(4, 2, seed=1)]
    kinds = ["classes", "probabilities"]
    alone = [
        float(distillation_loss(values(a), values(b), [kind]))
        for a, b, kind in zip(ours, wanted, kinds, strict=True)
    ]
    assert float(distillation_loss(values(*ours), values(*wanted), kinds)) == pytest.approx(sum(alone))


@given(kind=st.sampled_from(["classes", "probabilities", "values"]), seed=st.integers(0, 99))
def test_distillation_is_zero_at_the_original_and_nowhere_below(kind, seed):
    ours, wanted = values(random(3, 4, seed=seed)), values(random(3, 4, seed=seed + 100))
    assert float(distillation_loss(wanted, wanted, [kind])) == pytest.approx(0, abs=1e-5)
    assert float(distillation_loss(ours, wanted, [kind])) >= -1e-6


@given(kind=st.sampled_from(["classes", "probabilities", "values"]), cut=st.integers(1, 5))
def test_parts_of_a_batch_add_up(kind, cut):
    ours, wanted = random(6, 4), random(6, 4, seed=1)
    sizes = mean_squares([wanted])
    parts = [slice(0, cut), slice(cut, 6)]
    shares = [cut / 6, (6 - cut) / 6]
    whole = distillation_loss(values(ours), values(wanted), [kind], sizes)
    features = feature_loss([(ours, wanted)], sizes)
    for loss, of in (
        (whole, lambda p: distillation_loss(values(ours[p]), values(wanted[p]), [kind], sizes)),
        (features, lambda p: feature_loss([(ours[p], wanted[p])], sizes)),
    ):
        added = sum(share * float(of(part)) for share, part in zip(shares, parts, strict=True))
        assert added == pytest.approx(float(loss), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1, 1)])
def test_class_labels(shape):
    scores, labels = random(*shape), torch.tensor([0, 3, 1, 1, 2])
    wanted = -np.log(softmax(doubles(scores)[0])[np.arange(5), labels]).mean()
    assert float(label_loss(["classes"])((scores,), labels)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_labels_of_probabilities(dtype):
    """Class numbers stand for one 1 among zeros; several may be 1 in labels of the output's shape."""
    scores, classes = random(5, 4), torch.tensor([0, 3, 1, 1, 2])
    aim = torch.eye(4)[classes]
    s = sigmoid(doubles(scores)[0])
    wanted = -(aim.numpy() * np.log(s) + (1 - aim.numpy()) * np.log(1 - s)).sum() / 5
    labels = classes if dtype == torch.int64 else aim.to(dtype)
    assert float(label_loss(["probabilities"])((scores,), labels)) == pytest.approx(wanted, rel=1e-5)


def test_labels_that_are_values():
    found, labels = random(5, 4, 2), random(5, 4, 2, seed=1, scale=3)
    a, b = doubles(found, labels)
    wanted = ((a - b) ** 2).mean() / (b**2).mean()
    assert float(label_loss(["values"])((found,), labels)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "logits", "labels"),
    [
        ("classes", (random(5, 4),), torch.tensor([0, 1, 2, 3, 4])),
        ("classes", (random(5, 4),), torch.tensor([0, 1, 2])),
        ("classes", (random(5, 4),), ["a"] * 5),
        ("classes", (random(5, 4), random(5, 4)), torch.tensor([0] * 5)),
        ("probabilities", (random(5, 4),), torch.tensor([9] * 5)),
        ("values", (random(5, 4),), random(5, 3)),
    ],
)
def test_labels_that_do_not_fit(kind, logits, labels):
    with pytest.raises(UserError, match=r"the labels do not fit.*--loss module:function") as caught:
        label_loss([kind])(logits, labels)
    assert "\n" not in str(caught.value)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a module of losses and returns what names one of them."""

    def write(body: str) -> str:
        name = f"losses_{abs(hash(body))}"
        (tmp_path / f"{name}.py").write_text(f"def loss(logits, labels):\n    {body}\n")
        return f"{name}:loss"

    monkeypatch.syspath_prepend(str(tmp_path))
    return write


def test_a_loss_of_the_user_s(written):
    loss = loss_of_user(written("return (logits[:, 0] * labels).mean()"))
    scores, labels = random(5, 4), random(5, seed=1)
    assert float(loss((scores,), labels)) == pytest.approx(float((scores[:, 0] * labels).mean()))


def test_a_loss_of_the_user_s_on_several_outputs(written):
    loss = loss_of_user(written("return (logits[0] - logits[1]).abs().mean()[None]"))
    assert loss((random(5, 4), random(5, 4)), None).shape == ()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return logits", "returned no tensor of one number: return the batch's mean"),
        ("return 1.0", "returned no tensor of one number"),
        ("return logits[:, 99]", "failed: IndexError"),
    ],
)
def test_a_loss_of_the_user_s_that_is_none(written, body, says):
    with pytest.raises(UserError, match=says):
        loss_of_user(written(body))((random(5, 4),), None)


def test_no_such_loss():
    with pytest.raises(UserError, match="there is no module nowhere_to_be_found"):
        loss_of_user("nowhere_to_be_found:loss")
