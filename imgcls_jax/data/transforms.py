"""What a model sees of an image, as text: "random_crop(4, reflect)|flip|normalize(cifar10)"."""

import ast
import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from imgcls_jax.data.augmentations.auto_augment import AugMix, RandAugment, TrivialAugment
from imgcls_jax.data.augmentations.color import ColorJitter, RandomGray
from imgcls_jax.data.augmentations.geometric import (
    Affine,
    AlternatingFlip,
    Flip,
    RandomCrop,
    RandomResizedCrop,
    Rotation,
)
from imgcls_jax.data.augmentations.mixing import Cutmix, Cutout, Mix, Mixup
from imgcls_jax.data.image_ops import Bgr, CenterCrop, Normalize, Op, Resize, Rgb
from imgcls_jax.errors import ConfigError, did_you_mean

OPS: Mapping[str, type[Op]] = {
    "random_crop": RandomCrop,
    "random_resized_crop": RandomResizedCrop,
    "flip": Flip,
    "alternating_flip": AlternatingFlip,
    "rotation": Rotation,
    "affine": Affine,
    "color_jitter": ColorJitter,
    "random_gray": RandomGray,
    "rand_augment": RandAugment,
    "trivial_augment": TrivialAugment,
    "augmix": AugMix,
    "cutout": Cutout,
    "mixup": Mixup,
    "cutmix": Cutmix,
    "resize": Resize,
    "center_crop": CenterCrop,
    "rgb": Rgb,
    "bgr": Bgr,
    "normalize": Normalize,
}
MAX_FRAGMENT = 80  # characters of a fragment in an error
FORM = "it is not of the form name or name(argument, ...)"


@dataclasses.dataclass(frozen=True)
class Transform:
    """Scales images to [0, 1], then applies operations in order.

    mix: mixes pairs of examples. Training calls it on the result.
    """

    ops: tuple[Op, ...] = ()
    mix: Mix | None = None

    @property
    def random(self) -> bool:
        """Whether images differ between training and evaluation."""
        return self.mix is not None or any(op.random for op in self.ops)

    def __call__(
        self,
        images: jax.Array,
        keys: jax.Array | None = None,
        *,
        examples: jax.Array | None = None,
        epoch: jax.Array | int = 0,
    ) -> jax.Array:
        """Turns uint8 [B, H, W, C] into float32 [B, H', W', C'].

        keys: in training, a JAX key for each example [B]. Random operations depend on an example's
        own key alone. Without keys they are left out, as in evaluation. examples: the indices of
        the examples in the data set, int32 [B]; operations that go by epoch depend on these and
        the number of the epoch alone.

        Raises ConfigError if an operation does not fit the images, TypeError if the images are not
        uint8.
        """
        if images.dtype != jnp.uint8:
            raise TypeError(f"a transform takes uint8 images, not {images.dtype}")
        images = jnp.asarray(images).astype(jnp.float32) / 255
        for position, op in enumerate(self.ops):
            if not op.random:
                images = op(images, None)
            elif keys is None:
                continue
            elif op.by_epoch:
                fold_in_examples = jax.vmap(jax.random.fold_in, (None, 0))
                example_keys = fold_in_examples(jax.random.key(position), examples)
                images = op(images, example_keys, epoch)
            else:
                fold_in_position = jax.vmap(jax.random.fold_in, (0, None))
                images = op(images, fold_in_position(keys, position))
        return images


def parse(text: str) -> Transform:
    """Returns the transform for a text: names of OPS with literal arguments, separated by "|".

    "" only scales. Raises ConfigError with the wrong fragment, its position and all operations.
    """
    if not text.strip():
        return Transform()
    ops = []
    start = 1  # the position of the fragment in the text
    for number, fragment in enumerate(text.split("|"), 1):
        indent = len(fragment) - len(fragment.lstrip())
        where = f"operation {number}, at character {start + indent}"
        start += len(fragment) + 1
        fragment = fragment.strip()
        op = _parse_op(fragment, where)
        if ops and isinstance(ops[-1], Mix):
            name = ops[-1].signature.split("(")[0]
            raise _refusal(fragment, where, f"nothing may follow {name}")
        ops.append(op)
    if isinstance(ops[-1], Mix):
        return Transform(tuple(ops[:-1]), ops[-1])
    return Transform(tuple(ops))


def _parse_op(fragment: str, where: str) -> Op:
    call = _parse_call(fragment, where)
    name = call.func.id
    if name not in OPS:
        hint = did_you_mean(name, OPS)
        raise _refusal(fragment, where, f"there is no operation {name!r}.{hint}")
    try:
        arguments = [_literal(node) for node in call.args]
        # A keyword without a name is **options, which no operation takes.
        options = {keyword.arg or "**": _literal(keyword.value) for keyword in call.keywords}
        return OPS[name](*arguments, **options)
    except TypeError as error:
        reason = f"the arguments do not fit {OPS[name].signature}"
        raise _refusal(fragment, where, reason) from error
    except ConfigError as error:
        raise _refusal(fragment, where, str(error)) from error


def _parse_call(fragment: str, where: str) -> ast.Call:
    """Returns the syntax tree of "name(arguments)", or of "name" as a call without arguments."""
    try:
        tree = ast.parse(fragment, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refusal(fragment, where, FORM) from error
    if not isinstance(tree, ast.Call):
        tree = ast.Call(tree, [], [])
    if not isinstance(tree.func, ast.Name):
        raise _refusal(fragment, where, FORM)
    return tree


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
    if len(fragment) > MAX_FRAGMENT:
        fragment = f"{fragment[: MAX_FRAGMENT - 3]}..."
    operations = ", ".join(op.signature for op in OPS.values())
    reason = reason.rstrip(".")
    end = "" if reason.endswith("?") else "."
    return ConfigError(
        f"config.data.transform: cannot use {fragment!r} ({where}): {reason}{end} "
        f"Operations: {operations}."
    )
