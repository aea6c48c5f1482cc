"""A run of a second or two, with everything on that a resumed run could get wrong."""

from configs import base


def get_config():
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.data.transform = "random_crop(1)"
    config.model.name = "cnn"
    config.model.filters = (8,)
    config.train.update(
        epochs=10, batch_size=8, eval_batch_size=64, steps_per_dispatch=4, early_stopping=9
    )
    config.train.update(ema_decay=0.9, monitor="accuracy")
    config.optimizer.learning_rate = 2e-3
    config.schedule.update(name="plateau", patience=1, factor=0.7)
    return config
