"""Long-tailed CIFAR-10, with a ratio of 100 or 10: what does each remedy of unbalanced classes bring?

    python launch.py --config configs/studies/cifar_long_tail.py:100
    python launch.py --config configs/studies/cifar_long_tail.py:10

The training images are those of Cui et al. (2019): the first class keeps 5,000, the last 50 or 500.
A tenth of what is kept is the validation set, so it is long-tailed too, and its balanced accuracy
picks the checkpoint of every row. The test set is balanced and whole: its accuracy is the balanced
accuracy. The model is cifar_fast's in narrow, so that two cores train a run in five minutes at 100
and in nine at 10. The rows differ in one option of training, whose value is the usual one and was
not tuned. No report has it.
"""

from ml_collections import ConfigDict

from configs import base as run_base
from configs.studies import base

REMEDIES = {
    "1_plain": {},
    "2_class_weights": {"class_weights": "balanced"},
    "3_balanced_sampling": {"balanced_sampling": 1.0},
    "4_focal": {"focal_gamma": 2.0},
    "5_logit_adjustment": {"logit_adjustment": 1.0},
}


def run(ratio: float) -> ConfigDict:
    config = run_base.get_config()
    config.data.name = "cifar10"
    config.data.long_tail = ratio
    config.data.transform = "random_crop(4, reflect)|flip|normalize(cifar10)"

    config.model.name = "fast_cnn"
    config.model.filters = (16, 64, 64)

    config.train.epochs = 24
    config.train.batch_size = 128
    config.train.eval_batch_size = 500
    config.train.ema_decay = 0.98
    config.train.monitor = "balanced_accuracy"

    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 1e-3
    config.optimizer.decay_vectors = False

    config.schedule.name = "linear"
    config.schedule.warmup_epochs = 3.0
    return config


def get_config(ratio: str = "100") -> ConfigDict:
    config = base.get_config()
    config.name = f"cifar_long_tail_{ratio}"
    config.title = f"CIFAR-10 with a long tail, {ratio} to 1: what remedies bring"
    config.seeds = (0, 1, 2)
    for name, options in REMEDIES.items():
        row = run(float(ratio))
        row.train.update(options)
        config.rows[name] = ConfigDict({"config": row})
    return config
