"""The commands of `python -m imgcls_jax`: a module each, with `add_arguments` and `run`.

The first line of a module's docstring is its line in `imgcls --help`; the whole docstring, with
its examples, is what `imgcls COMMAND --help` says. Modules import JAX and whatever else takes long
inside their functions, so that `--help` answers at once.
"""

from imgcls_jax.commands import (
    audit,
    compare,
    demo,
    ensemble,
    explain,
    export,
    find_lr,
    index,
    options,
    predict,
    profile,
    publish,
    report,
    reproduce,
    robustness,
    show_data,
    train,
    unknown,
    weights,
)

# In the order in which --help lists them.
COMMANDS = (
    train,
    predict,
    demo,
    explain,
    robustness,
    unknown,
    ensemble,
    compare,
    report,
    index,
    publish,
    reproduce,
    export,
    audit,
    show_data,
    find_lr,
    profile,
    weights,
    options,
)
