"""The names of GoogLeNet's variables in torchvision's file."""

from imgcls_jax.pretrained import layouts

# The auxiliary heads were never trained.
IGNORED = (r".*\.num_batches_tracked", r"aux[12]\..*")


def torch_name(path: str) -> tuple[str, str]:
    """ "params/inception5b/branch2_1/conv/kernel" -> ("inception5b.branch2.1.conv.weight", "conv")."""
    return layouts.torch_name(path, dense={"fc"})
