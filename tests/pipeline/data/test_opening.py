import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from pipeline.data import Preprocessing, facts, open_data
from pipeline.errors import UserError
from pipeline.retraining.records import DataFacts


@pytest.fixture
def arrays(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, x=np.zeros((4, 16, 16), np.uint8), y=np.arange(4) % 3)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_nothing_there(tmp_path, folder, network):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    for name, reason in (
        ("empty", "holds no training data: there is no image"),
        ("notes", "holds no training data: there is no image"),
        ("missing", "there is no .*missing: give a directory of class folders"),
    ):
        with pytest.raises(UserError, match=reason):
            open_data(tmp_path / name, folder, network())
    with pytest.raises(UserError, match="there is no nonsense: give"):
        open_data("nonsense", folder, network())
    with pytest.raises(UserError, match="holds no validation data"):
        open_data(folder, tmp_path / "empty", network())


def test_a_part_that_is_missing(tmp_path, draw, folder, network):
    draw(tmp_path / "set" / "train" / "a" / "0.png")
    with pytest.raises(UserError, match="no validation data of its own"):
        open_data(tmp_path / "set", None, network(outputs=(1, 1)))
    with pytest.raises(UserError, match="there is no val or validation or valid or test folder in it"):
        open_data(folder, tmp_path / "set", network())


def test_validation_is_never_the_training_data(folder, arrays, tmp_path, draw, network):
    with pytest.raises(UserError, match=r"are both .*pets: give other samples"):
        open_data(folder, str(folder) + "/", network())
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="are both"):
        open_data(folder, tmp_path / "link", network())
    with pytest.raises(UserError, match="are both"):
        open_data(arrays, arrays, network())
    dataset = TensorDataset(torch.zeros(4, 3, 16, 16))
    with pytest.raises(UserError, match="are both"):
        open_data(dataset, dataset, network())
    for part in ("train", "val"):
        shutil.copytree(folder, tmp_path / "set" / part)
    with pytest.raises(UserError, match="are both"):
        open_data(tmp_path / "set", tmp_path / "set" / "train", network())
    with pytest.raises(UserError, match="or leave it out"):
        open_data(tmp_path / "set", tmp_path / "set", network())


def test_one_preprocessing_for_both(folder, arrays, copy, network):
    with pytest.raises(UserError, match="are of different kinds: say with --preprocessing"):
        open_data(folder, arrays, network())
    data = open_data(folder, arrays, network(), preprocessing="signed")
    assert data.preprocessing.resize == 18
    assert data.validation.fetch([0], None).inputs[0].unique().tolist() == [-1]
    record = Preprocessing(size=(16, 16), scale=2.0)
    assert open_data(folder, copy, network(), preprocessing=record).preprocessing == record


def test_a_dataset_beside_images_preprocesses_by_itself(folder, network):
    dataset = TensorDataset(torch.zeros(4, 3, 16, 16))
    assert open_data(folder, dataset, network()).preprocessing.resize == 18
    assert open_data(folder, dataset, network(), preprocessing="unit").preprocessing.scale == 1 / 255
    with pytest.raises(UserError, match="is not preprocessed here: leave --preprocessing out"):
        open_data(dataset, TensorDataset(torch.ones(2, 3, 16, 16)), network(), preprocessing="unit")


@pytest.mark.parametrize("shapes", [[(1, 3, 16, 16)] * 2, [(1, 1024)], [(1, 4, 16, 16)]])
def test_images_do_not_fit_every_network(folder, copy, network, shapes):
    with pytest.raises(UserError, match=r"holds images, and the network takes in0 .*: give a Dataset"):
        open_data(folder, copy, network(*shapes))


def test_class_names_are_for_folders(arrays, tmp_path, network):
    names = tmp_path / "names"
    names.write_text("a\nb\nc\n")
    other = shutil.copy(arrays, tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"class names .* are for class folders"):
        open_data(arrays, other, network(), classes=names)


def test_empty_arrays(arrays, tmp_path, network):
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 16, 16), np.uint8), y=np.zeros(0, int))
    for pair in ((arrays, tmp_path / "empty.npz"), (tmp_path / "empty.npz", arrays)):
        with pytest.raises(UserError, match=r"empty\.npz holds no samples"):
            open_data(*pair, network())


def test_facts_are_a_record(folder, copy, network):
    (folder / "dog" / "0.png").write_bytes(b"")
    source = open_data(folder, copy, network()).training
    source.fetch(range(9), None)
    assert DataFacts(**facts(source)) == DataFacts(
        name=str(folder), samples=9, classes=3, labelled=True, unreadable=("dog/0.png",), skipped=1
    )


def test_facts_name_the_first_and_count_all(folder, copy, network):
    source = open_data(folder, copy, network()).training
    source.unreadable.update({str(at): "gone" for at in range(30)})
    found = facts(source)
    assert found["unreadable"] == tuple(str(at) for at in range(20))
    assert found["skipped"] == 30
