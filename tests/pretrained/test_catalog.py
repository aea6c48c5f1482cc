"""The catalogue agrees with itself and with the models."""

import re

import pytest

from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError
from imgcls_jax.models import MODELS
from imgcls_jax.pretrained.catalog import CATALOG, KEY_MAPS, key_map

ROWS = pytest.mark.parametrize("weights", CATALOG.values(), ids=CATALOG)


@ROWS
def test_the_model_is_registered_and_has_a_key_map(weights):
    assert weights.model in MODELS
    assert weights.model in KEY_MAPS


@ROWS
def test_a_row_has_one_hash_and_one_place(weights):
    assert bool(weights.sha256) != bool(weights.md5)
    if weights.package:
        assert not weights.url
        assert re.fullmatch("[0-9a-f]{64}", weights.sha256)
        return
    assert weights.url.startswith("https://")
    if weights.sha256:  # torchvision's names end in it
        assert len(weights.sha256) == 8
        assert weights.file_name.endswith(f"-{weights.sha256}.pth")
    else:
        assert re.fullmatch("[0-9a-f]{32}", weights.md5)
    assert (weights.classes == 0) == ("_notop" in weights.url)


@ROWS
def test_preprocessing_is_valid_and_results_in_the_input_size(weights):
    sizes = []
    for op in parse(weights.transform).ops:
        if hasattr(op, "size"):
            sizes.append(op.size)
    assert sizes[-1] == weights.input_size


def test_no_two_files_have_the_same_name_in_the_cache():
    assert len({weights.file_name for weights in CATALOG.values()}) == len(CATALOG)


def test_a_model_without_a_key_map_is_refused_with_those_that_have_one():
    with pytest.raises(ConfigError, match="key map for a model named 'cnn'.*resnet18"):
        key_map("cnn")
