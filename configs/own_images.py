"""A start for your own images: a ResNet-20 on colour or grayscale images of 32x32 pixels, minutes
on a laptop.

    python launch.py --config configs/own_images.py --config.data.path=FOLDER

FOLDER holds a folder of images for each class, or train/CLASS and test/CLASS, with val/CLASS if
there is one. Nothing is mirrored: where left and right mean nothing, put "flip|" before the other
operations of data.transform. Larger images are worth trying, with --config.data.image_size=64, and
other models: configs/studies/own_images.py compares some.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.source = "folder"
    config.data.name = "own images"
    config.data.image_size = 32
    config.data.transform = (
        "random_crop(4, reflect)|rotation(10)|color_jitter(.2, .2)|normalize(.5, .25)"
    )

    config.model.name = "resnet20"

    config.train.epochs = 30
    config.train.batch_size = 32
    config.train.eval_batch_size = 128
    # An accuracy on few validation images is too coarse to pick an epoch by.
    config.train.monitor = "loss"

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0
    return config
