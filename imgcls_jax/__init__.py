"""imgcls_jax: image classification in JAX and Flax, from MNIST and CIFAR-10 to your own images.

    import imgcls_jax

    config = imgcls_jax.load_config("configs/quickstart.py", seed=1)
    run = imgcls_jax.train(config)
    print(run.test["accuracy"])

JAX is imported by the first function that is used, not by `import imgcls_jax`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcls_jax.api import evaluate, load_config, load_run, predict, train

__version__ = "0.2.0"
__all__ = ["evaluate", "load_config", "load_run", "predict", "train"]


def __getattr__(name: str) -> Any:
    """Returns a function of `imgcls_jax.api`, which is imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("imgcls_jax.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
