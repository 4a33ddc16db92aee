import numpy as np
import pytest

from pipeline.data import open_data
from pipeline.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0])


@pytest.fixture
def save(tmp_path):
    def write(name: str = "data.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


@pytest.fixture
def held_out(save):
    return save("held out.npz", images=IMAGES[:2], labels=LABELS[:2])


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("x", "y"), ("X", "Y"), ("IN0", "y"), ("x_train", "y_train")]
)
def test_names(save, held_out, network, names):
    path = save(**{names[0]: IMAGES, names[1]: LABELS})
    source = open_data(path, held_out, network()).training
    assert source.fetch([3, 0], None).labels.tolist() == [2, 0]
    assert len(source) == 6


@pytest.mark.parametrize("end", ["_test", "_val", "_TEST"])
def test_both_parts_in_one_file(save, network, end):
    path = save(x_train=IMAGES, y_train=LABELS, **{f"x{end}": IMAGES[:2], f"y{end}": LABELS[:2]})
    data = open_data(path, None, network())
    assert (len(data.training), len(data.validation)) == (6, 2)
    with pytest.raises(UserError, match="or leave it out"):
        open_data(path, path, network())


def test_labels_may_be_absent(save, held_out, network):
    source = open_data(save(x=IMAGES), held_out, network()).training
    assert (source.labelled, source.classes) == (False, None)


def test_a_network_of_several_inputs_finds_each_by_its_name(save, network):
    shapes = (1, 4), (1, 2, 3)
    arrays = {"in0": np.ones((5, 4), np.float32), "in1": np.zeros((5, 2, 3)), "y": LABELS[:5]}
    data = open_data(save(**arrays), save("v.npz", **arrays), network(*shapes))
    batch = data.training.fetch([0, 1], None)
    assert [tuple(each.shape) for each in batch.inputs] == [(2, 4), (2, 2, 3)]
    assert data.preprocessing is None
    with pytest.raises(UserError, match="call them in0 and in1"):
        open_data(save("other.npz", x=IMAGES), held_out, network(*shapes))


def test_what_is_missing_is_told(save, held_out, network):
    with pytest.raises(
        UserError, match=r"holds no training samples among its arrays \(pixels\): call them images or x"
    ):
        open_data(save(pixels=IMAGES), held_out, network())
    with pytest.raises(UserError, match="holds no validation samples"):
        open_data(save(x=IMAGES), save("v.npz", x_train=IMAGES), network())


def test_files_that_are_no_npz(tmp_path, held_out, network):
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(UserError, match=r"is an \.npy file"):
        open_data(tmp_path / "a.npy", held_out, network())
    whole = held_out.read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is not an NPZ file"):
        open_data(tmp_path / "half.npz", held_out, network())
    (tmp_path / "flipped.npz").write_bytes(whole[:400] + bytes(200) + whole[600:])
    with pytest.raises(UserError, match="is not an NPZ file"):
        open_data(tmp_path / "flipped.npz", held_out, network())
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match=r"is neither an \.npz nor an IDX file"):
        open_data(tmp_path / "text", held_out, network())


def test_objects_are_never_unpickled(save, held_out, network):
    with pytest.raises(UserError, match="is not an NPZ file of numbers"):
        open_data(save(x=np.array([{"a": 1}], dtype=object)), held_out, network())
