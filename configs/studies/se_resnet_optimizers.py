"""Report C's comparison of optimizers and schedules on the SE-ResNet, CIFAR-10 (row C3).

    python launch.py --config configs/studies/se_resnet_optimizers.py

The report names SGD with cosine annealing the best and gives no figures. It does not give the
learning rates of the other optimizers either: these are their usual ones. Eight rows of 200 epochs
are work for a GPU.
"""

from ml_collections import ConfigDict

from configs import cifar_se_resnet
from configs.studies import base

MOMENTUM = {"name": "sgd", "momentum": 0.9, "learning_rate": 0.1}
OPTIMIZERS = {
    "sgd": MOMENTUM,
    "nesterov": MOMENTUM | {"nesterov": True},
    "adam": {"name": "adam", "learning_rate": 1e-3},
    "adamw": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 5e-2},
    "rmsprop": {"name": "rmsprop", "learning_rate": 1e-3, "beta2": 0.99},
    "adagrad": {"name": "adagrad", "learning_rate": 1e-2},
}


def row(optimizer: dict, schedule: str) -> ConfigDict:
    config = cifar_se_resnet.get_config()
    config.optimizer.update({"momentum": 0.0} | optimizer)
    config.schedule.name = schedule
    return ConfigDict({"config": config})


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "se_resnet_optimizers"
    config.title = "Report C: optimizers and schedules for the SE-ResNet on CIFAR-10"
    config.rows = ConfigDict(
        {f"{name}_cosine": row(options, "cosine") for name, options in OPTIMIZERS.items()}
    )
    for schedule in ("onecycle", "constant"):
        config.rows[f"sgd_{schedule}"] = row(MOMENTUM, schedule)
    return config
