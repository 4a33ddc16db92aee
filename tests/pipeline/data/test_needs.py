import pytest

from pipeline.data.needs import ImageInput, Needs


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 3, 20, 30), ImageInput(3, 20, 30, False)),
        ((1, 1, 20, 30), ImageInput(1, 20, 30, False)),
        ((1, 20, 30, 3), ImageInput(3, 20, 30, True)),
        ((1, 20, 30, 1), ImageInput(1, 20, 30, True)),
        ((1, 3, 30, 3), ImageInput(3, 30, 3, False)),
        ((1, 4, 20, 30), None),
        ((1, 1024), None),
        ((1, 3, 8, 20, 30), None),
    ],
)
def test_images(network, shape, image):
    assert Needs.of(network(shape)).image == image


def test_several_inputs_are_no_image(network):
    needs = Needs.of(network((1, 3, 8, 8), (1, 4)))
    assert needs.image is None
    assert needs.shapes == ((3, 8, 8), (4,))
    assert needs.described() == "in0 (1, 3, 8, 8), in1 (1, 4)"


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((1, 1000), 1000),
        ((1, 1000, 1, 1), 1000),
        ((1, 1, 1, 10), 10),
        ((1, 1), 1),
        ((1, 21, 64, 64), None),
    ],
)
def test_classes(network, shape, classes):
    assert Needs.of(network(outputs=shape)).classes == classes
