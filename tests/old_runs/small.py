"""A run of seconds, with options that every version has had."""

from configs import base


def get_config():
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model.name = "cnn"
    config.model.filters = (3,)
    config.model.hidden = 6
    config.train.update(epochs=6, batch_size=32, eval_batch_size=64, steps_per_dispatch=4)
    return config
