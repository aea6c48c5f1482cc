"""A search over ranges of any options of any config, which is named after a colon.

    python launch.py --config configs/studies/search.py:quickstart --config.trials=10 --dry_run

    python launch.py --config configs/studies/search.py:quickstart --config.trials=10 \\
      --config.search="(('optimizer.learning_rate', 'log_uniform(1e-4, 1e-1)'), ('train.batch_size', 'choice(16, 64)'))"

Trials are ranked by the validation metric that the config monitors; docs/studies.md has the rest.
"""

import importlib.util

from ml_collections import ConfigDict

from configs.studies import base


def get_config(name: str = "quickstart") -> ConfigDict:
    if importlib.util.find_spec(f"configs.{name}") is None:
        raise ValueError(
            f"There is no configs/{name}.py: give --config configs/studies/search.py:NAME."
        )
    config = base.get_config()
    config.name = f"{name}_search"
    config.title = f"A search over configs/{name}.py"
    config.search = (("optimizer.learning_rate", "log_uniform(1e-4, 1e-1)"),)
    config.rows = ConfigDict(
        {name: {"config": importlib.import_module(f"configs.{name}").get_config()}}
    )
    return config
