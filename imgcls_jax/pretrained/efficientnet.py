"""The names of EfficientNet's variables in torchvision's, Keras' and Lite0's files."""

from imgcls_jax.models import efficientnet as models
from imgcls_jax.pretrained import naming

# Layers in Lite0's file; those of a block follow the block's name.
LITE_LAYERS = {
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


def torch_name(path: str) -> tuple[str, str]:
    """Returns a variable's name and layout in the file.

    Example: params/features_1_0/block_0/0/kernel is features.1.0.block.0.0.weight, conv.
    """
    return naming.torch_name(path, dense={"classifier_1"})


def keras_name(path: str) -> tuple[str, str]:
    """Returns a variable's name and layout in the file.

    Example: params/block4a/expand/conv/kernel is block4a_expand_conv/block4a_expand_conv/kernel,
    same.
    """
    _, module, _ = naming.split(path)
    is_depthwise = module.endswith("dwconv2/conv")
    # Keras calls the depthwise convolution "dwconv2", and the BatchNorm after it "bn".
    layer = module.replace("dwconv2/conv", "dwconv2").replace("dwconv2/bn", "bn")
    layer = layer.replace("/", "_")
    return naming.keras_name(path, layer=layer, norm=layer.endswith("bn"), depthwise=is_depthwise)


def _lite_blocks() -> list[str]:
    """The names of Lite0's blocks here, in their order: the file numbers them."""
    names = []
    for number, stage in enumerate(models.B0, 1):
        for index in range(stage.blocks):
            names.append(models.LITE.block_name(number, index))
    return names


LITE_BLOCKS = _lite_blocks()


def lite_name(path: str) -> tuple[str, str]:
    """Returns a variable's name and layout in the file.

    Example: params/block4a/expand/conv/kernel is _blocks.5._expand_conv.weight, conv.
    """
    collection, module, leaf = naming.split(path)
    block, _, part = module.partition("/")
    if block in LITE_BLOCKS:
        layer = f"_blocks.{LITE_BLOCKS.index(block)}.{LITE_LAYERS[part]}"
    else:
        layer = LITE_LAYERS[module]
    return naming.torch_leaf(collection, layer, leaf, dense=module == "predictions")


def keras_layers() -> tuple[str, ...]:
    """Returns the names of all layers of Keras' EfficientNetV2-B0 without its top, in order."""
    names = ["input_layer", "rescaling", "normalization", "stem_conv", "stem_bn", "stem_activation"]
    for number, stage in enumerate(models.V2_B0, 1):
        for index in range(stage.blocks):
            block = models.KERAS.block_name(number, index)
            parts = _block_layers(stage)
            if index > 0:  # the first of a stage changes the shape, so it has no shortcut
                parts += ["drop", "add"]
            names += [f"{block}_{part}" for part in parts]
    return (*names, "top_conv", "top_bn", "top_activation")


def _block_layers(stage: models.Stage) -> list[str]:
    """Keras' layers of a block without the shortcut's, in their order."""
    expand = ["expand_conv", "expand_bn", "expand_activation"]
    project = ["project_conv", "project_bn"]
    if stage.fused and stage.expand == 1:
        return [*project, "project_activation"]
    if stage.fused:
        return [*expand, *project]
    depthwise = ["dwconv2", "bn", "activation"]
    squeeze_excite = ["se_squeeze", "se_reshape", "se_reduce", "se_expand", "se_excite"]
    return [*expand, *depthwise, *squeeze_excite, *project]


TORCHVISION = naming.KeyMap(
    name_of=torch_name,
    classifier=r"^params/classifier_1/",
    family="torch",
    ignored=(naming.TORCH_COUNTERS,),
)
KERAS = naming.KeyMap(
    name_of=keras_name,
    classifier=r"^params/predictions/",
    family="keras",
    aliases=naming.KERAS_ALIASES,
    layers=keras_layers(),
)
LITE = naming.KeyMap(
    name_of=lite_name,
    classifier=r"^params/predictions/",
    family="torch",
    ignored=(naming.TORCH_COUNTERS,),
)
