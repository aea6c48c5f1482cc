"""A start for your own images, from random weights: minutes on a laptop for some hundreds.

    python launch.py --config configs/own_images.py:FOLDER

FOLDER holds a folder of images for each class, or train/CLASS and test/CLASS, with val/CLASS if
there is one. Model, size, batch and epochs fit the number and the size of the images in it, and the
first line says what they are: a ResNet-20 for up to 20,000 images, with more of them cifar_fast's
network and recipe. They can be changed like all other options; without a folder after the colon
they are those for 1,000 small images, whatever --config.data.path names. Images that are not square
are padded. Nothing is mirrored: where left and right mean nothing, put "flip|" before the other
operations of data.transform. configs/studies/own_images.py compares other models.
"""

import statistics
import sys
import warnings
from math import inf
from pathlib import Path

from ml_collections import ConfigDict

from configs import base, cifar_fast
from configs.own_photos import count, training_folder, up_to

MEASURED = 50  # images whose size is looked at
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # of these
LARGE = 128  # pixels of a side from which images keep 64 pixels, not 32
MANY = 20_000  # images above which cifar_fast's recipe is used
IMAGES_SEEN = 250_000  # in all epochs of that recipe, about
WARMUP = 3.5 / 16  # its share of the epochs in cifar_fast


def typical_side(folder: str) -> float:
    """Returns the median of the shorter sides of some images, in pixels; 0 if none can be read."""
    files = sorted(training_folder(folder).glob("[!.]*/[!.]*"))
    step = max(len(files) // MEASURED, 1)
    sides = []
    for file in files[::step]:
        side = _side(file)
        if side:
            sides.append(side)
    if not sides:
        return 0
    return statistics.median(sides)


def _side(file: Path) -> int:
    """Returns an image's shorter side, 0 if it cannot be read: training says what is wrong."""
    from PIL import Image

    if not file.is_file():
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow calls a large photo an attack
        try:
            with Image.open(file, formats=FORMATS) as image:
                return min(image.size)
        except Exception:  # a damaged file can make Pillow raise nearly anything
            return 0


def few_images(config: ConfigDict, images: int) -> None:
    """A ResNet-20 and AdamW, with more epochs the fewer images there are."""
    config.data.transform = (
        "random_crop(4, reflect)|rotation(10, fill=nearest)|color_jitter(.2, .2)|normalize(.5, .25)"
    )
    config.model.name = "resnet20"
    config.train.epochs = up_to(images, (200, 60), (2_000, 30), (inf, 20))
    config.train.batch_size = up_to(images, (200, 16), (2_000, 32), (inf, 64))
    config.train.eval_batch_size = 128
    # An accuracy on few validation images is too coarse to pick an epoch by.
    config.train.monitor = "loss"

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0


def many_images(config: ConfigDict, images: int) -> None:
    """The recipe of cifar_fast, without flips, with fewer epochs the more images there are."""
    recipe = cifar_fast.get_config()
    for section in ("model", "train", "optimizer", "schedule"):
        config[section] = recipe[section]
    config.data.transform = "random_crop(2, reflect)|normalize(.5, .25)"
    config.train.tta = "none"  # its views are mirrored
    config.train.epochs = max(IMAGES_SEEN // images, 4)
    config.schedule.warmup_epochs = WARMUP * config.train.epochs


def get_config(folder: str = "") -> ConfigDict:
    images = 1_000
    side = 0.0
    if folder and count(folder) > 0:
        images = count(folder)
        side = typical_side(folder)
    config = base.get_config()
    config.data.source = "folder"
    config.data.name = "own images"
    config.data.image_size = 32
    config.data.fit = "pad"
    if images > MANY:
        many_images(config, images)
    else:
        few_images(config, images)
        config.data.image_size = 64 if side >= LARGE else 32
    if folder:
        config.name = "own_images"
        config.data.path = folder
    if side:
        size = config.data.image_size
        print(
            f"own_images: {config.model.name} on {size}x{size} pixels, batches of "
            f"{config.train.batch_size:,}, {config.train.epochs} epochs, for {images:,} images of "
            f"about {side:g} pixels in {folder}.",
            file=sys.stderr,
        )
    return config
