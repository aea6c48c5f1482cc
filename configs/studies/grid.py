"""A grid over any options of any config, with any seeds: the config is named after a colon.

    python launch.py --config configs/studies/grid.py:quickstart --config.seeds=0,1,2 \\
      --config.grid="(('optimizer.learning_rate', (.001, .003)), ('train.batch_size', (16, 32)))" --dry_run

Without --dry_run it trains. Without a grid it is the config itself, with several seeds and a table.
"""

from ml_collections import ConfigDict

from configs.studies import base


def get_config(name: str = "quickstart") -> ConfigDict:
    return base.of_config(name, study="grid")
