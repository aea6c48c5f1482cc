"""The names of GoogLeNet's variables in torchvision's file."""

from imgcls_jax.pretrained import naming


def torch_name(path: str) -> tuple[str, str]:
    """Returns a variable's name and layout in the file.

    Example: params/inception5b/branch2_1/conv/kernel is inception5b.branch2.1.conv.weight, conv.
    """
    return naming.torch_name(path, dense={"fc"})


TORCHVISION = naming.KeyMap(
    name_of=torch_name,
    classifier=r"^params/fc/",
    family="torch",
    ignored=(naming.TORCH_COUNTERS, r"aux[12]\..*"),  # the auxiliary heads were never trained
)
