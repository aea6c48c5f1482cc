"""The weights that a model has before training: their shapes, and what is drawn at random of them."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError, shape_text
from imgcls_jax.pretrained.port import Variables

# For the program that draws on CPUs. XLA's own level, 3, takes seconds longer to compile what draws
# random numbers; both give the same bits.
FEWER_PASSES = {"xla_backend_optimization_level": 2}


class Initializer:
    """Draws the variables of a model, {"params": ..., "batch_stats": ...}, when they are asked for.

    image: the shape of a batch [1, H, W, C] after the transform.
    shapes: the variables without content.

    Raises ConfigError if the model cannot take images of that size.
    """

    def __init__(self, model: nn.Module, image: jax.ShapeDtypeStruct, *, seed: int):
        self._init = jax.jit(model.init, inline=True)  # so that it is traced once
        self._image = image
        self._key = jax.random.key(seed)
        try:
            self.shapes: Variables = jax.eval_shape(self._init, self._key, image)
            if not all(leaf.size for leaf in jax.tree.leaves(self.shapes)):
                raise ValueError("nothing of the image is left for its last layers")
        except (TypeError, ValueError, ZeroDivisionError) as error:
            size = shape_text(image.shape[1:])
            raise ConfigError(
                f"The model {type(model).__name__} cannot be built for images of {size}: {error}. "
                'Resize them in the transform, for example --config.data.transform="resize(28)".'
            ) from error

    @functools.cached_property
    def variables(self) -> Variables:
        """All of them drawn."""
        return self.fill(self.shapes)

    def fill(self, variables: Variables) -> Variables:
        """Returns the variables with what is drawn in place of each shape.

        Seconds of compiling are spared where few are left to draw, as beside pretrained weights.
        """
        leaves = trees.flatten(variables)
        missing = {path for path, leaf in leaves.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
        if not missing:
            return variables

        def draw(key):
            drawn = self._init(key, jnp.zeros(self._image.shape, self._image.dtype))
            return {path: leaf for path, leaf in trees.flatten(drawn).items() if path in missing}

        options = None
        if jax.default_backend() == "cpu":
            options = FEWER_PASSES
        drawn = jax.jit(draw, compiler_options=options)(self._key)
        return jax.tree.unflatten(jax.tree.structure(variables), list((leaves | drawn).values()))
