"""The names of ResNet's variables in torchvision's and in Keras' files."""

from imgcls_jax.pretrained import naming


def torch_name(path: str) -> tuple[str, str]:
    """Returns name and layout: params/layer4_1/conv2/kernel -> layer4.1.conv2.weight, conv."""
    return naming.torch_name(path, dense={"fc"})


def keras_name(path: str) -> tuple[str, str]:
    """Returns a variable's name and layout in the file.

    Example: params/conv5_block1/2_conv/kernel is conv5_block1_2_conv/conv5_block1_2_conv/kernel,
    same.
    """
    _, module, _ = naming.split(path)
    layer = module.replace("/", "_")
    return naming.keras_name(path, layer=layer, norm=layer.endswith("bn"))


TORCHVISION = naming.KeyMap(
    name_of=torch_name,
    classifier=r"^params/fc/",
    family="torch",
    ignored=(naming.TORCH_COUNTERS,),
)
KERAS = naming.KeyMap(
    name_of=keras_name,
    classifier=r"^params/predictions/",
    family="keras",
    aliases=naming.KERAS_ALIASES,
)
