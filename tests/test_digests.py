"""Held-out images that a run's sources have learned from are counted."""

import json

import numpy as np
import pytest

from configs import base
from imgcls_jax.run import digests
from imgcls_jax.run.folder import ENSEMBLE, RunFolder

EMPTY = np.array([], np.uint64)


def numbers(*ranges):
    return np.concatenate([np.arange(*ends) for ends in ranges]).astype(np.uint64)


OWN = {
    "train": numbers((0, 60)),
    "validation": numbers((60, 80)),
    "test": numbers((80, 100)),
}


@pytest.fixture
def source(tmp_path):
    """source(train, validation): the folder of a run that learned from these images."""

    def make(train, validation=EMPTY, name="source"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        digests.write(run, {"train": train, "validation": validation})
        return str(run.path)

    return make


def counts(**options):
    config = base.get_config()
    config.model.pretrained = options.get("pretrained", "")
    if "teacher" in options:
        config.objective = {"name": "distill", "teacher": options["teacher"]}
    return digests.learned_before(config, OWN)


def test_of_the_same_split_nothing_is_counted(source):
    assert counts(pretrained=source(OWN["train"], OWN["validation"])) == {}


def test_test_images_may_have_trained_or_chosen_and_validation_images_have_trained(source):
    folder = source(numbers((0, 50), (78, 85)), numbers((70, 78), (85, 88)))
    assert counts(pretrained=folder) == {"validation": 2, "test": 8}
    assert counts(teacher=folder) == {"validation": 2, "test": 8}


def test_members_of_a_teacher_and_backbones_of_a_hybrid_count(source, tmp_path):
    folder = source(numbers((0, 50), (90, 95)))
    other = source(numbers((0, 50)), name="other")
    assert counts(pretrained=f"{other}, {folder}") == {"test": 5}
    (tmp_path / "both").mkdir()
    members = [{"run": "../other", "weight": 0.5}, {"run": "../source", "weight": 0.5}]
    content = json.dumps({"rule": "equal", "members": members, "test": {}, "oracle": 1.0})
    (tmp_path / "both" / ENSEMBLE).write_text(content)
    assert counts(teacher=str(tmp_path / "both")) == {"test": 5}


def test_sources_without_digests_are_not_counted(tmp_path):
    assert counts() == {}
    assert counts(pretrained="efficientnet_lite0") == {}
    assert counts(pretrained=str(tmp_path)) == {}


def test_the_sentence_says_what_to_do():
    splits = {"validation": {"examples": 20}, "test": {"examples": 20}}
    (sentence,) = digests.warnings({"learned_before": {"test": 5}, "splits": splits})
    assert sentence.startswith("5 of 20 test images (25.00 %) had a part in the training of a run")
    assert "config.data.split_seed" in sentence
