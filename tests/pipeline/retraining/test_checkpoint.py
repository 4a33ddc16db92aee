"""Checkpoints: what is written comes back, anything else is refused in one line."""

import io
import pickle

import pytest
import torch

from pipeline.errors import UserError
from pipeline.retraining import Settings, StepResult, checkpoint
from pipeline.retraining.checkpoint import Done, Identity, Saved
from relay_passes import Candidate, Kind, MergePlan


def identity(**changes) -> Identity:
    given = {
        "source_digest": "sha256:0",
        "settings": Settings(),
        "metric": "top-1",
        "training": "données ß",
        "validation": "val",
        "steps": ("conv1", "tucker"),
    }
    return Identity(**given | changes)


@pytest.fixture
def saved() -> Saved:
    result = StepResult(
        name="conv1",
        merges=("conv1",),
        kept=True,
        before=91.25,
        started=1 / 3,
        accuracy=91.0,
        iterations=7,
        epochs=0.7,
        seconds=1.5,
    )
    candidate = Candidate(
        name="conv1", kind=Kind.TUCKER, exact=False, layers=("conv1",), removed=(), ranks=(2, 3)
    )
    done = Done(
        identity=identity(),
        original=91.25,
        results=(result,),
        made=(MergePlan(candidates=(candidate,)),),
        batches=7,
    )
    parameter = torch.nn.Parameter(torch.randn(3, 2, 3, 3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.square().sum().backward()
    optimizer.step()
    training = {"iteration": 3, "optimizer": optimizer.state_dict(), "mean": [parameter.detach()]}
    return Saved(done, {"conv1:weight": parameter.detach()}, {"training": training, "started": 0.1})


def test_there_and_back(saved, tmp_path):
    out = tmp_path / "à moi" / "out"
    checkpoint.save(out, saved)
    found = checkpoint.load(out, identity())
    assert found.done == saved.done
    assert torch.equal(found.weights["conv1:weight"], saved.weights["conv1:weight"])
    assert found.step["started"] == 0.1
    ours, wanted = found.step["training"], saved.step["training"]
    assert torch.equal(ours["mean"][0], wanted["mean"][0])
    momenta = (each["optimizer"]["state"][0]["momentum_buffer"] for each in (ours, wanted))
    assert torch.equal(*momenta)


def test_no_checkpoint(tmp_path):
    assert checkpoint.load(tmp_path, identity()) is None


def test_removed_with_what_a_killed_write_left_and_nothing_else(saved, tmp_path):
    checkpoint.save(tmp_path, saved)
    (tmp_path / "checkpoint" / ".ab12.tmp").write_bytes(b"half")
    checkpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []
    checkpoint.remove(tmp_path)
    checkpoint.save(tmp_path, saved)
    (tmp_path / "checkpoint" / "notes.txt").write_text("the user's")
    checkpoint.remove(tmp_path)
    assert [each.name for each in (tmp_path / "checkpoint").iterdir()] == ["notes.txt"]


def damaged(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "empty": b"",
        "cut": data[:middle],
        "end": data[:-100] + bytes(100),
        "text": b"no checkpoint\n" * 9,
        "list": saved_as([1, 2]),
        "fields": saved_as({"done": "{}", "weights": {}, "step": None}),
        "missing": saved_as({"weights": {}}),
    }


def saved_as(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", damaged(b"0123"))
def test_a_damaged_file(kind, saved, tmp_path):
    checkpoint.save(tmp_path, saved)
    path = tmp_path / "checkpoint" / "state.pt"
    path.write_bytes(damaged(path.read_bytes())[kind])
    with pytest.raises(
        UserError, match=r"state.pt is damaged \(.+\): remove .*checkpoint to start"
    ) as caught:
        checkpoint.load(tmp_path, identity())
    assert len(str(caught.value)) < 300 + len(str(tmp_path)) * 2


class Evil:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("write", [pickle.dumps, saved_as])
def test_no_code_runs(write, saved, tmp_path, capsys):
    checkpoint.save(tmp_path, saved)
    path = tmp_path / "checkpoint" / "state.pt"
    path.write_bytes(write({"done": saved.done.model_dump_json(), "weights": Evil(), "step": None}))
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(tmp_path, identity())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": Settings(batch_size=8)}, "a retraining with batch size 64, not 8"),
        ({"settings": Settings(recipe="paper", seed=1)}, "a retraining with recipe fitted, not paper"),
        ({"metric": "top-5"}, "a retraining with metric top-1, not top-5"),
        ({"training": "other"}, "a retraining with training données ß, not other"),
        ({"source_digest": "sha256:1"}, "the retraining of another network"),
        ({"steps": ("conv1",)}, "or with other merges"),
    ],
)
def test_another_run(changes, says, saved, tmp_path):
    checkpoint.save(tmp_path, saved)
    with pytest.raises(UserError, match=f"{says}.*: give the same again, or another --out"):
        checkpoint.load(tmp_path, identity(**changes))


def test_a_file_in_the_way(saved, tmp_path):
    (tmp_path / "checkpoint").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        checkpoint.save(tmp_path, saved)
