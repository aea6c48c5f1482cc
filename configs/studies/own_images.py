"""Which model suits your own images: a small CNN, a ResNet-20, and the ResNet-20 without
augmentation, three seeds each.

    python launch.py --config configs/studies/own_images.py:FOLDER

FOLDER is as for configs/own_images.py, which the rows start from.
"""

from ml_collections import ConfigDict

from configs import own_images
from configs.studies import base

ROWS = {
    "cnn": {"model.name": "cnn"},
    "resnet20": {},
    "resnet20_plain": {"data.transform": "normalize(.5, .25)"},
}


def get_config(folder: str = "") -> ConfigDict:
    config = base.get_config()
    config.name = "own_images_study"
    config.title = "Models for one's own images"
    config.seeds = (0, 1, 2)
    start = own_images.get_config(folder)
    for label, options in ROWS.items():
        row = start.copy_and_resolve_references()
        row.update_from_flattened_dict(options)
        config.rows[label] = ConfigDict({"config": row})
    return config
