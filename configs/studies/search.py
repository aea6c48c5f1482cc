"""A search over ranges of any options of any config, which is named after a colon.

    python launch.py --config configs/studies/search.py:quickstart --config.trials=10 --dry_run

    python launch.py --config configs/studies/search.py:quickstart --config.trials=10 \\
      --config.search="(('optimizer.learning_rate', 'log_uniform(1e-4, 1e-1)'), ('train.batch_size', 'choice(16, 64)'))"

Trials are ranked by the validation metric that the config monitors; docs/studies.md has the rest.
"""

from ml_collections import ConfigDict

from configs.studies import base


def get_config(name: str = "quickstart") -> ConfigDict:
    config = base.of_config(name, study="search")
    config.search = (("optimizer.learning_rate", "log_uniform(1e-4, 1e-1)"),)
    return config
