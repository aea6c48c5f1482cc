"""The names of EfficientNet's variables in torchvision's file, of EfficientNetV2's in Keras', of Lite0's in its own."""

from imgcls_jax.models.efficientnet import B0, V2_B0, Keras, Lite, Stage
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


LITE_LAYERS = {  # of Lite0's file, those of a block after the block's name
    "stem/conv": "_conv_stem",
    "stem/bn": "_bn0",
    "expand/conv": "_expand_conv",
    "expand/bn": "_bn0",
    "dwconv2/conv": "_depthwise_conv",
    "dwconv2/bn": "_bn1",
    "project/conv": "_project_conv",
    "project/bn": "_bn2",
    "top/conv": "_conv_head",
    "top/bn": "_bn1",
    "predictions": "_fc",
}
LITE_BLOCKS = [
    Lite.block(number, index) for number, stage in enumerate(B0, 1) for index in range(stage.blocks)
]


def lite_name(path: str) -> tuple[str, str]:
    """ "params/block4a/expand/conv/kernel" -> ("_blocks.5._expand_conv.weight", "conv")."""
    collection, module, leaf = layouts.split(path)
    block, _, part = module.partition("/")
    if block in LITE_BLOCKS:
        layer = f"_blocks.{LITE_BLOCKS.index(block)}.{LITE_LAYERS[part]}"
    else:
        layer = LITE_LAYERS[module]
    return layouts.torch_leaf(collection, layer, leaf, dense=module == "predictions")


def keras_layers() -> tuple[str, ...]:
    """The names of all layers of Keras' EfficientNetV2-B0 without its top, in Keras' order."""
    names = ["input_layer", "rescaling", "normalization", "stem_conv", "stem_bn", "stem_activation"]
    for number, stage in enumerate(V2_B0, 1):
        for index in range(stage.blocks):
            block = Keras.block(number, index)
            parts = _fused(stage) if stage.fused else _inverted()
            parts += ["drop", "add"] if index else []  # the first of a stage changes the shape
            names += [f"{block}_{part}" for part in parts]
    return (*names, "top_conv", "top_bn", "top_activation")


def _fused(stage: Stage) -> list[str]:
    if stage.expand == 1:
        return ["project_conv", "project_bn", "project_activation"]
    return ["expand_conv", "expand_bn", "expand_activation", "project_conv", "project_bn"]


def _inverted() -> list[str]:
    squeeze_excite = [f"se_{part}" for part in ("squeeze", "reshape", "reduce", "expand", "excite")]
    filtered = ["expand_conv", "expand_bn", "expand_activation", "dwconv2", "bn", "activation"]
    return [*filtered, *squeeze_excite, "project_conv", "project_bn"]
