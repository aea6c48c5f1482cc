"""The names of EfficientNet's variables in torchvision's file, and of EfficientNetV2's in Keras'."""

from imgcls_jax.pretrained import layouts

IGNORED = (r".*\.num_batches_tracked",)


def torch_name(path: str) -> tuple[str, str]:
    """ "params/features_1_0/block_0/0/kernel" -> ("features.1.0.block.0.0.weight", "conv")."""
    return layouts.torch_name(path, dense={"classifier_1"})


def keras_name(path: str) -> tuple[str, str]:
    """ "params/block4a/expand/conv/kernel" -> ("block4a_expand_conv/block4a_expand_conv/kernel", "same")."""
    module = layouts.split(path)[1]
    # Keras has "dwconv2" and "bn" for the depthwise convolution and what follows it.
    depthwise = module.endswith("dwconv2/conv")
    layer = module.replace("dwconv2/conv", "dwconv2").replace("dwconv2/bn", "bn").replace("/", "_")
    return layouts.keras_name(path, layer=layer, norm=layer.endswith("bn"), depthwise=depthwise)
