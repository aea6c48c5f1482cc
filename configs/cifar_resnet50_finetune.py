"""Report D's second level on CIFAR-10: ResNet-50's last stage and classifier train, on augmented
images.

    python launch.py --config configs/cifar_resnet50_finetune.py

The report gives 94.34 % on validation and 94.64 % on test (row D2). The amounts of the crop and of
the colour jitter are ours, and so is the choice that frozen layers keep the batch statistics of
their weights; the report does not say whether its layers went on updating them
(--config.adapt.frozen_statistics=update).
"""

from ml_collections import ConfigDict

from configs import cifar_resnet50_frozen


def get_config() -> ConfigDict:
    config = cifar_resnet50_frozen.get_config()
    # The images are enlarged last: on 32x32 all else is cheaper.
    config.data.transform = (
        "random_crop(4)|flip|color_jitter(.2, .2, .2, .05)|resize(224)|normalize(imagenet)"
    )

    config.train.epochs = 10

    config.adapt.trainable = ("^layer4_", "^fc/")

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.weight_decay = 1e-4

    config.schedule.name = "cosine"
    return config
