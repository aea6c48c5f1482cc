"""Image operations inside the jitted step, written as text: "random_crop(4, reflect)|flip|normalize(cifar10)"."""

import ast
import dataclasses
import difflib
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from imgcls_jax.errors import ConfigError, choose

STATISTICS = {  # mean and standard deviation of each channel, images scaled to [0, 1]
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "caffe": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3),  # of BGR: 0 to 255 less the mean
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
PADDINGS = {"zero": "constant", "reflect": "reflect"}  # their names in jnp.pad
RESIZINGS = {"bilinear": "linear", "bicubic": "cubic"}  # their names in jax.image.resize


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation: its fields are its arguments in the text.

    `op(images, keys)` turns float32 [B, H, W, C] into float32 [B, H', W', C']; keys are per-example JAX keys [B] for
    random operations, which run in training only, and None for the others.
    """

    signature: ClassVar[str]
    random: ClassVar[bool] = False
    by_epoch: ClassVar[bool] = (
        False  # op(images, keys, epoch): keys of the examples themselves, the same in every epoch
    )


@dataclasses.dataclass(frozen=True)
class RandomCrop(Op):
    """Pads each side by `padding` pixels, and crops the old size at a random place, each place equally likely."""

    signature = "random_crop(padding, mode=zero|reflect)"
    random = True
    padding: int
    mode: str = "zero"

    def __post_init__(self):
        _require_positive("padding", self.padding)
        choose("padding mode", self.mode, PADDINGS)

    def __call__(self, images, keys):
        height, width, channels = images.shape[1:]
        _require(
            self.mode != "reflect" or self.padding < min(height, width),
            f"random_crop({self.padding}, reflect) needs images larger than the padding; they are {height}x{width}",
        )
        sides = (self.padding, self.padding)
        padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)), mode=PADDINGS[self.mode])

        def crop(image, key):
            top, left = jax.random.randint(key, (2,), 0, 2 * self.padding + 1)
            return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

        return jax.vmap(crop)(padded, keys)


@dataclasses.dataclass(frozen=True)
class Flip(Op):
    """Mirrors left and right with probability one half."""

    signature = "flip"
    random = True

    def __call__(self, images, keys):
        mirrored = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class AlternatingFlip(Op):
    """Mirrors an example left and right in every second epoch; which half begins is random (Jordan, 2024).

    Of any two epochs in turn an example is seen both ways, where `flip` shows it the same way in half the cases.
    """

    signature = "alternating_flip"
    random = True
    by_epoch = True

    def __call__(self, images, keys, epoch):
        mirrored = jax.vmap(jax.random.bernoulli)(keys) ^ (epoch % 2 == 1)
        return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class Resize(Op):
    """Resizes to size x size by `jax.image.resize`, pixels taken as squares with their values at the centres.

    Enlarging is plain interpolation (bicubic with a = -0.5); shrinking widens the kernel by the factor (antialiasing),
    as Pillow and torchvision do.
    """

    signature = "resize(size, method=bilinear|bicubic)"
    size: int
    method: str = "bilinear"

    def __post_init__(self):
        _require_positive("size", self.size)
        choose("resizing method", self.method, RESIZINGS)

    def __call__(self, images, keys):
        shape = (len(images), self.size, self.size, images.shape[-1])
        return jax.image.resize(images, shape, RESIZINGS[self.method])


@dataclasses.dataclass(frozen=True)
class CenterCrop(Op):
    """Crops the middle size x size, rounding as torchvision does."""

    signature = "center_crop(size)"
    size: int

    def __post_init__(self):
        _require_positive("size", self.size)

    def __call__(self, images, keys):
        height, width = images.shape[1:3]
        _require(
            self.size <= min(height, width),
            f"center_crop({self.size}) needs images at least as large; they are {height}x{width}",
        )
        top, left = (round((side - self.size) / 2) for side in (height, width))
        return images[:, top : top + self.size, left : left + self.size]


@dataclasses.dataclass(frozen=True)
class Rgb(Op):
    """Repeats the one channel of grayscale images to three; images of three channels stay as they are."""

    signature = "rgb"

    def __call__(self, images, keys):
        return jnp.broadcast_to(images, (*images.shape[:-1], 3))


@dataclasses.dataclass(frozen=True)
class Bgr(Op):
    """Turns the order of the channels round, from RGB to BGR."""

    signature = "bgr"

    def __call__(self, images, keys):
        return images[..., ::-1]


@dataclasses.dataclass(frozen=True)
class Normalize(Op):
    """(image - mean) / std, channel by channel; a single mean and std are for all the channels."""

    signature = f"normalize({'|'.join(STATISTICS)}) or normalize((means), (stds))"
    mean: str | float | tuple[float, ...]
    std: float | tuple[float, ...] | None = None

    def __post_init__(self):
        mean, std = self.mean, self.std
        if isinstance(mean, str):
            _require(std is None, "a named normalization takes no further argument")
            mean, std = choose("normalization", mean, STATISTICS)
        mean, std = (value if isinstance(value, tuple) else (value,) for value in (mean, std))
        numbers = all(isinstance(value, int | float) for value in (*mean, *std))
        _require(
            numbers and len(mean) == len(std) and len(mean) in (1, 3),
            "give a name, or 1 or 3 means and as many standard deviations, as numbers",
        )
        _require(min(std) > 0, "standard deviations must be above 0")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def __call__(self, images, keys):
        channels = images.shape[-1]
        _require(
            len(self.mean) in (1, channels),
            f"normalize has {len(self.mean)} means, but the images have {channels} channel: put rgb before it, or give "
            "one mean and one standard deviation",
        )
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)


OPS: Mapping[str, type[Op]] = {
    "random_crop": RandomCrop,
    "flip": Flip,
    "alternating_flip": AlternatingFlip,
    "resize": Resize,
    "center_crop": CenterCrop,
    "rgb": Rgb,
    "bgr": Bgr,
    "normalize": Normalize,
}


@dataclasses.dataclass(frozen=True)
class Transform:
    """Scaling to [0, 1], then operations in order."""

    ops: tuple[Op, ...] = ()

    @property
    def random(self) -> bool:
        """Whether training sees other images than evaluation."""
        return any(op.random for op in self.ops)

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
                images = op(images, jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(position), examples), epoch)
            elif keys is not None:
                images = op(images, jax.vmap(jax.random.fold_in, (0, None))(keys, position))
        return images


def parse(text: str) -> Transform:
    """The transform that `text` describes: names of `OPS` with literal arguments, separated by "|"; "" only scales.

    Errors: ConfigError that names the wrong fragment and lists the operations.
    """
    if not text.strip():
        return Transform()
    return Transform(tuple(_parse_op(fragment.strip()) for fragment in text.split("|")))


def _parse_op(fragment: str) -> Op:
    try:
        tree = ast.parse(fragment, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _refusal(fragment, "it is not of the form name or name(argument, ...)") from error
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    if not isinstance(call.func, ast.Name):
        raise _refusal(fragment, "it is not of the form name or name(argument, ...)")
    name = call.func.id
    if name not in OPS:
        near = difflib.get_close_matches(name, OPS, n=1)
        raise _refusal(fragment, f"there is no operation {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    try:
        arguments = [_literal(node) for node in call.args]
        options = {keyword.arg or "**": _literal(keyword.value) for keyword in call.keywords}
        return OPS[name](*arguments, **options)
    except (TypeError, ConfigError) as error:
        reason = f"the arguments do not fit {OPS[name].signature}" if isinstance(error, TypeError) else str(error)
        raise _refusal(fragment, reason.rstrip(".")) from error


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


def _refusal(fragment: str, reason: str) -> ConfigError:
    operations = ", ".join(op.signature for op in OPS.values())
    return ConfigError(f"config.data.transform: cannot use {fragment!r}: {reason}. Operations: {operations}.")


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ConfigError(f"{reason}.")


def _require_positive(name: str, value) -> None:
    _require(isinstance(value, int) and value > 0, f"{name} must be a whole number above 0, not {value!r}")
