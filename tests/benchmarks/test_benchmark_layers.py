"""The table of layers: what it lists, and that a row is measured."""

from benchmarks import layers


def test_the_layers_are_those_of_the_model():
    convolutions = layers.layers_of("resnet20")
    assert len(convolutions) == 21  # 19 of 3x3, and two shortcuts
    assert str(convolutions[0]) == "128 x 32x32x3 to 16, 3x3, stride 1"
    assert "depthwise, 3x3, stride 1" in str(layers.layers_of("efficientnet_b0")[1])


def test_a_row_has_every_algorithm_and_marks_the_chosen_one():
    layer = layers.Layer((2, 8, 8, 4), (3, 3, 1, 4), (1, 1), ((1, 1), (1, 1)), 4)
    cells = layers.row(layer, rounds=1).split(" | ")
    assert cells[2] == "-" and cells[3].startswith("**")
    assert 0 < float(cells[-1].removesuffix(" |")) < 1e-6
