"""The names of ConvNeXt's variables in torchvision's file."""

from imgcls_jax.pretrained import naming
from imgcls_jax.pretrained.layouts import Layout

DENSE_LAYERS = {"block_3", "block_5", "classifier_2"}


def torch_name(path: str) -> tuple[str, str]:
    """Returns a variable's name and layout in the file.

    Example: params/features_1_0/block_0/kernel is features.1.0.block.0.weight, conv.
    """
    _, module, leaf = naming.split(path)
    if leaf == "layer_scale":
        return f"{module.replace('_', '.')}.{leaf}", Layout.CHANNELS
    return naming.torch_name(path, dense=DENSE_LAYERS)


TORCHVISION = naming.KeyMap(name_of=torch_name, classifier=r"^params/classifier_2/", family="torch")
