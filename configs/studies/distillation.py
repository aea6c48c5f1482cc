"""Distillation (report D's next steps, D6): report E's small CNN learns from labels, or from
cifar_fast as well.

    python launch.py --config configs/studies/distillation.py

The teacher is runs/cifar_fast, which is trained first if it is not there; it looks at the training
images once. Both rows have its split of the data, 49,000 images to train on, and differ in the
objective alone; the temperature and the weight are Hinton et al.'s usual ones and were not tuned.
No report has it. Our figures: results/distillation/table.md.
"""

from ml_collections import ConfigDict

from configs import cifar_cnn, cifar_fast
from configs.studies import base


def row(objective: dict) -> ConfigDict:
    config = cifar_cnn.get_config()
    config.data.validation_size = cifar_fast.get_config().data.validation_size
    config.objective = ConfigDict(objective)
    return ConfigDict({"config": config})


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "distillation"
    config.title = "Report E's CNN taught by cifar_fast"
    config.seeds = (0, 1, 2)
    config.needs = ConfigDict({"cifar_fast": cifar_fast.get_config()})
    config.rows = ConfigDict(
        {
            "1_labels": row({}),
            "2_distilled": row(
                {"name": "distill", "teacher": "runs/cifar_fast", "temperature": 4.0, "weight": 0.9}
            ),
        }
    )
    return config
