"""The names of ResNet's variables in torchvision's and in Keras' files."""

from imgcls_jax.pretrained import layouts

IGNORED = (r".*\.num_batches_tracked",)


def torch_name(path: str) -> tuple[str, str]:
    """ "params/layer4_1/conv2/kernel" -> ("layer4.1.conv2.weight", "conv")."""
    return layouts.torch_name(path, dense={"fc"})


def keras_name(path: str) -> tuple[str, str]:
    """ "params/conv5_block1/2_conv/kernel" -> ("conv5_block1_2_conv/conv5_block1_2_conv/kernel", "same")."""
    layer = layouts.split(path)[1].replace("/", "_")
    return layouts.keras_name(path, layer=layer, norm=layer.endswith("bn"))
