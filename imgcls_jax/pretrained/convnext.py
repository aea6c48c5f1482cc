"""The names of ConvNeXt's variables in torchvision's file."""

from imgcls_jax.pretrained import layouts

IGNORED = ()


def torch_name(path: str) -> tuple[str, str]:
    """ "params/features_1_0/block_0/kernel" -> ("features.1.0.block.0.weight", "conv")."""
    if path.endswith("/layer_scale"):
        module, leaf = path.removeprefix("params/").rsplit("/", 1)
        return f"{module.replace('_', '.')}.{leaf}", layouts.Layout.CHANNELS
    return layouts.torch_name(path, dense={"block_3", "block_5", "classifier_2"})
