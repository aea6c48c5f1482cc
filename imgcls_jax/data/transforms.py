"""What a model sees of an image, as text: "random_crop(4, reflect)|flip|normalize(cifar10)"."""

import ast
import dataclasses
import difflib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from imgcls_jax.data.augmentations import (
    Affine,
    AlternatingFlip,
    ColorJitter,
    Cutmix,
    Cutout,
    Flip,
    Mix,
    Mixup,
    RandomCrop,
    RandomGray,
    RandomResizedCrop,
    Rotation,
)
from imgcls_jax.data.image_ops import Bgr, CenterCrop, Normalize, Op, Resize, Rgb
from imgcls_jax.errors import ConfigError

OPS: Mapping[str, type[Op]] = {
    "random_crop": RandomCrop,
    "random_resized_crop": RandomResizedCrop,
    "flip": Flip,
    "alternating_flip": AlternatingFlip,
    "rotation": Rotation,
    "affine": Affine,
    "color_jitter": ColorJitter,
    "random_gray": RandomGray,
    "cutout": Cutout,
    "mixup": Mixup,
    "cutmix": Cutmix,
    "resize": Resize,
    "center_crop": CenterCrop,
    "rgb": Rgb,
    "bgr": Bgr,
    "normalize": Normalize,
}


@dataclasses.dataclass(frozen=True)
class Transform:
    """Scaling to [0, 1], then operations in order; `mix`, if any, is for training to call on what comes out."""

    ops: tuple[Op, ...] = ()
    mix: Mix | None = None

    @property
    def random(self) -> bool:
        """Whether training sees other images than evaluation."""
        return self.mix is not None or any(op.random for op in self.ops)

    def __call__(
        self,
        images: jax.Array,
        keys: jax.Array | None = None,
        *,
        examples: jax.Array | None = None,
        epoch: jax.Array | int = 0,
    ) -> jax.Array:
        """uint8 [B, H, W, C] -> float32 [B, H', W', C'].

        keys: for training, a JAX key for each example, [B]; what is random depends on an example's own key alone.
        Without keys random operations are left out, as evaluation has it. examples: the examples' numbers in the data
        set, int32 [B], and epoch: the number of the epoch; what goes by epoch depends on these alone.
        Errors: ConfigError where an operation does not fit the images; TypeError for images that are not uint8.
        """
        if images.dtype != jnp.uint8:
            raise TypeError(f"a transform takes uint8 images, not {images.dtype}")
        images = jnp.asarray(images).astype(jnp.float32) / 255
        for position, op in enumerate(self.ops):
            if not op.random:
                images = op(images, None)
            elif keys is not None and op.by_epoch:
                images = op(
                    images,
                    jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(position), examples),
                    epoch,
                )
            elif keys is not None:
                images = op(images, jax.vmap(jax.random.fold_in, (0, None))(keys, position))
        return images


def parse(text: str) -> Transform:
    """The transform that `text` describes: names of `OPS` with literal arguments, separated by "|"; "" only scales.

    Errors: ConfigError that names the wrong fragment and where it stands, and lists the operations.
    """
    if not text.strip():
        return Transform()
    ops, at = [], 1
    for number, fragment in enumerate(text.split("|"), 1):
        where = f"operation {number}, at character {at + len(fragment) - len(fragment.lstrip())}"
        ops.append(_parse_op(fragment.strip(), where))
        if number > 1 and isinstance(ops[-2], Mix):
            raise _refusal(
                fragment.strip(), where, f"nothing may follow {ops[-2].signature.split('(')[0]}"
            )
        at += len(fragment) + 1
    if isinstance(ops[-1], Mix):
        return Transform(tuple(ops[:-1]), ops[-1])
    return Transform(tuple(ops))


def _parse_op(fragment: str, where: str) -> Op:
    try:
        tree = ast.parse(fragment, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refusal(
            fragment, where, "it is not of the form name or name(argument, ...)"
        ) from error
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    if not isinstance(call.func, ast.Name):
        raise _refusal(fragment, where, "it is not of the form name or name(argument, ...)")
    name = call.func.id
    if name not in OPS:
        near = difflib.get_close_matches(name, OPS, n=1)
        raise _refusal(
            fragment,
            where,
            f"there is no operation {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""),
        )
    try:
        arguments = [_literal(node) for node in call.args]
        options = {keyword.arg or "**": _literal(keyword.value) for keyword in call.keywords}
        return OPS[name](*arguments, **options)
    except (TypeError, ConfigError) as error:
        reason = (
            f"the arguments do not fit {OPS[name].signature}"
            if isinstance(error, TypeError)
            else str(error)
        )
        raise _refusal(fragment, where, reason.rstrip(".")) from error


def _literal(node: ast.expr) -> str | float | tuple:
    match node:
        case ast.Constant(value=int() | float() | str() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=word):
            return word
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=elements):
            return tuple(_literal(element) for element in elements)
    raise ConfigError(f"{ast.unparse(node)!r} is no number, word or tuple of these")


def _refusal(fragment: str, where: str, reason: str) -> ConfigError:
    operations = ", ".join(op.signature for op in OPS.values())
    fragment = fragment if len(fragment) <= 80 else f"{fragment[:77]}..."
    return ConfigError(
        f"config.data.transform: cannot use {fragment!r} ({where}): {reason}. Operations: {operations}."
    )
