"""Two rows with two seeds each, of three epochs."""

from ml_collections import ConfigDict

from tests.faults import tiny


def get_config():
    config = ConfigDict({"name": "tiny_study", "title": "Two widths", "seeds": (0, 1)})
    config.rows = ConfigDict()
    for label, width in (("narrow", 4), ("wide", 8)):
        row = tiny.get_config()
        row.model.filters = (width,)
        row.train.epochs = 3
        config.rows[label] = ConfigDict({"config": row})
    return config
