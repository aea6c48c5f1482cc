"""The catalogue agrees with itself and with the models."""

import re

import pytest

from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError
from imgcls_jax.models import MODELS
from imgcls_jax.pretrained.catalog import CATALOG, KEY_MAPS, key_map

ROWS = pytest.mark.parametrize("weights", CATALOG.values(), ids=CATALOG)


@ROWS
def test_a_row_names_what_there_is(weights):
    assert weights.model in MODELS and weights.model in KEY_MAPS
    assert bool(weights.sha256) != bool(weights.md5)
    if weights.package:
        assert not weights.url and re.fullmatch("[0-9a-f]{64}", weights.sha256)
        return
    assert weights.url.startswith("https://")
    if weights.sha256:  # torchvision's names end in it
        assert weights.file_name.endswith(f"-{weights.sha256}.pth") and len(weights.sha256) == 8
    else:
        assert re.fullmatch("[0-9a-f]{32}", weights.md5)
    assert (weights.classes == 0) == ("_notop" in weights.url)


@ROWS
def test_its_preprocessing_is_understood_and_gives_the_input_size(weights):
    sizes = [getattr(op, "size", None) for op in parse(weights.transform).ops]
    assert [size for size in sizes if size][-1] == weights.input_size


def test_no_two_files_share_a_place_in_the_cache():
    assert len({weights.file_name for weights in CATALOG.values()}) == len(CATALOG)


def test_a_model_without_a_key_map_is_refused_with_those_that_have_one():
    with pytest.raises(ConfigError, match="key map for a model named 'cnn'.*resnet18"):
        key_map("cnn")
