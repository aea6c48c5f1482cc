"""What `python -m imgcls_jax` can do: a module each, with `add_arguments(parser)` and `run(options)`.

The first line of a module's docstring is its line in `--help`. Modules import what takes long inside their functions,
so that `--help` answers at once.
"""

from imgcls_jax.commands import (
    compare,
    ensemble,
    explain,
    export,
    index,
    predict,
    profile,
    publish,
    report,
    reproduce,
    robustness,
    show_data,
    train,
    weights,
)

COMMANDS = (
    *(train, predict, explain, robustness, ensemble, compare, report, index),
    *(publish, reproduce, export, show_data, profile, weights),
)
