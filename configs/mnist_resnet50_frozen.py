"""Report B's frozen ResNet-50 on MNIST: Keras' ImageNet weights at 32x32, a dense layer of ten on
the pooled features.

    python launch.py --config configs/mnist_resnet50_frozen.py

The report gives 94.15 % test accuracy at a loss of 0.2149 and 43 s an epoch (row B2), with pixels
in [0, 1] as here, though the weights were trained on others. Its fit names no batch size: 32 is
Keras' default.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.transform = "resize(32)|rgb"

    config.model.name = "resnet50_keras"
    config.model.pretrained = "resnet50_keras_notop"

    config.train.epochs = 10
    config.train.batch_size = 32

    config.adapt.trainable = ("^predictions/",)

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.eps = 1e-7  # Keras'
    return config
