"""Which model suits your own images: a small CNN, a ResNet-20, and the ResNet-20 without
augmentation, two seeds each.

    python launch.py --config configs/studies/own_images.py --config.path=FOLDER

FOLDER is as for configs/own_images.py, which the rows start from.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import own_images
from configs.studies import base

ROWS = {
    "cnn": {"model.name": "cnn"},
    "resnet20": {},
    "resnet20_plain": {"data.transform": "normalize(.5, .25)"},
}


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "own_images_study"
    config.title = "Models for one's own images"
    config.seeds = (0, 1)
    config.path = placeholder(str)
    for label, options in ROWS.items():
        row = own_images.get_config()
        row.update_from_flattened_dict(options)
        row.data.path = config.get_ref("path")
        config.rows[label] = ConfigDict({"config": row})
    return config
