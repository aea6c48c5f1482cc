"""Renaming a file's arrays into variables and back, on a model of three layers."""

import logging

import jax
import ml_dtypes
import numpy as np
import pytest

from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.pretrained import naming
from imgcls_jax.pretrained.port import LINES, port, unport

SHAPES = {
    "params": {
        "conv": {"kernel": (3, 5, 2, 4)},
        "bn": {"scale": (4,), "bias": (4,)},
        "fc": {"kernel": (4, 10), "bias": (10,)},
    },
    "batch_stats": {"bn": {"mean": (4,), "var": (4,)}},
}
EXPECTED = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, np.float32),
    SHAPES,
    is_leaf=lambda node: isinstance(node, tuple),
)
IGNORED = (naming.TORCH_COUNTERS,)


def name_of(path):
    return naming.torch_name(path, dense={"fc"})


def file() -> dict[str, np.ndarray]:
    """The arrays of a file that fits."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv.weight": (4, 2, 3, 5),
        "bn.weight": (4,),
        "bn.bias": (4,),
        "bn.running_mean": (4,),
        "bn.running_var": (4,),
        "fc.weight": (10, 4),
        "fc.bias": (10,),
    }
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["bn.num_batches_tracked"] = np.array(3)
    return arrays


def load(arrays, expected=EXPECTED, **options):
    return port(dict(arrays), expected, name_of=name_of, ignored=IGNORED, **options)


def test_every_array_becomes_the_right_variable():
    arrays = file()
    variables = load(arrays)
    params = variables["params"]
    kernel = params["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[2, 4, 1, 3], arrays["conv.weight"][3, 1, 2, 4])
    np.testing.assert_array_equal(params["fc"]["kernel"], arrays["fc.weight"].T)
    np.testing.assert_array_equal(params["bn"]["scale"], arrays["bn.weight"])
    stored_var = variables["batch_stats"]["bn"]["var"]
    np.testing.assert_array_equal(stored_var, arrays["bn.running_var"])
    assert jax.tree.map(np.shape, variables) == SHAPES
    for leaf in jax.tree.leaves(variables):
        assert leaf.dtype == np.float32
        assert leaf.flags.c_contiguous


def test_the_way_back_is_exact():
    arrays = file()
    exported = unport(load(arrays), name_of=name_of)
    del arrays["bn.num_batches_tracked"]
    assert set(exported) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(exported[name], array, strict=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_other_types_become_float32(dtype):
    arrays = {name: array.astype(dtype) for name, array in file().items()}
    bias = load(arrays)["params"]["fc"]["bias"]
    np.testing.assert_array_equal(bias, arrays["fc.bias"].astype(np.float32), strict=True)


def test_arrays_are_removed_when_they_are_taken():
    arrays = file()
    port(arrays, EXPECTED, name_of=name_of, ignored=IGNORED)
    assert set(arrays) == {"bn.num_batches_tracked"}


def test_one_error_lists_everything_that_does_not_fit():
    arrays = file()
    arrays["bn.gamma"] = arrays.pop("bn.weight")
    arrays["aux.weight"] = np.zeros((7, 7))
    arrays["conv.weight"] = arrays["conv.weight"].transpose(0, 1, 3, 2)
    arrays["bn.bias"][2] = np.nan
    arrays["fc.bias"] = np.arange(10)
    with pytest.raises(DataError) as error:
        load(arrays, source="w.pth")
    assert str(error.value).splitlines() == [
        "w.pth (9 arrays) does not fit the model (7); nothing was loaded.",
        "2 in the file, but not in the model:",
        "  bn.gamma (4,)",
        "  aux.weight (7, 7)",
        "1 not finite:",
        "  bn.bias (4,), for params/bn/bias: 1 entries are NaN or infinite in float32",
        "1 missing in the file:",
        "  bn.weight (4,), for params/bn/scale",
        "1 of another shape:",
        "  conv.weight (4, 2, 5, 3) in the file, (4, 2, 3, 5) expected, for params/conv/kernel",
        "1 not of floating point:",
        "  fc.bias (10,) int64, for params/fc/bias",
    ]


def test_the_nearest_names_are_given_on_both_sides():
    arrays = file()
    arrays["bn.runing_mean"] = arrays.pop("bn.running_mean")
    with pytest.raises(DataError) as error:
        load(arrays)
    message = str(error.value)
    assert "for batch_stats/bn/mean; the nearest left over is bn.runing_mean" in message
    assert "bn.runing_mean (4,); the nearest left over is bn.running_mean" in message


def test_a_number_too_large_for_float32_is_not_finite():
    arrays = {name: array.astype(np.float64) for name, array in file().items()}
    arrays["fc.bias"][0] = 1e300
    with pytest.raises(DataError, match="fc.bias .* 1 entries are NaN or infinite"):
        load(arrays)


def test_a_long_list_is_cut():
    unknown = {f"x{i}": np.zeros(1) for i in range(100)}
    with pytest.raises(DataError, match=f"and {100 - LINES} more"):
        load(file() | unknown)


@pytest.mark.parametrize("has_classifier", [True, False])
def test_a_classifier_is_skipped_on_demand(has_classifier, caplog):
    initial = jax.tree.map(lambda leaf: np.full(leaf.shape, 7, np.float32), EXPECTED)
    classifier = {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)}
    initial["params"]["fc"] = classifier
    arrays = file()
    if not has_classifier:
        del arrays["fc.weight"]
        del arrays["fc.bias"]
    with caplog.at_level(logging.INFO):
        variables = load(arrays, initial, skip="^params/fc/", source="w.pth")
    params = variables["params"]
    np.testing.assert_array_equal(params["fc"]["kernel"], classifier["kernel"])
    np.testing.assert_array_equal(params["bn"]["bias"], arrays["bn.bias"])
    skipped = "params/fc/bias, params/fc/kernel"
    assert f"Not taken from w.pth, as '^params/fc/' says: {skipped}." in caplog.text
    with pytest.raises(DataError, match="fc.weight"):
        load(arrays, initial)


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"skip='params/fd/' matches no variable.*params/fc"):
        load(file(), skip="params/fd/")


def test_a_key_map_with_one_name_for_two_variables_cannot_be_inverted():
    with pytest.raises(ValueError, match="twice"):
        unport(load(file()), name_of=lambda path: ("same", "same"))
