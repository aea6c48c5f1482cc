"""Self-supervised pretraining on CIFAR-10 (report B's future work, B8): SimCLR with a ResNet-20.

    python launch.py --config configs/cifar_simclr.py

Two random views of each image are trained to have similar projections (NT-Xent, Chen et al., 2020);
no label reaches the backbone. The accuracies that are shown are those of a linear classifier that
learns from the labels on the way, without a gradient into the features; the epoch is picked by that
classifier's loss on validation images. configs/cifar_simclr_probe.py then trains a classifier on
the finished features. 100 epochs are meant for a GPU; on two CPU cores an epoch takes three
minutes, and results/ has the run with --config.train.epochs=20.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "cifar10"
    config.data.transform = (
        "random_resized_crop(.2)|flip|color_jitter(.4, .4, .4, .1)|random_gray(.2)"
        "|normalize(cifar10)"
    )

    config.model.name = "simclr"
    config.model.backbone = "resnet20"

    config.objective = ConfigDict({"name": "simclr", "temperature": 0.5})
    config.train.epochs = 100
    config.train.batch_size = 256
    config.train.monitor = "loss"

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0
    return config
