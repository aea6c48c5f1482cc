"""The interface that every model has."""

from flax import linen as nn


class Classifier(nn.Module):
    """An image classifier in two parts: images [B, H, W, C] -> features -> logits [B, num_classes].

    Subclasses define two methods:

    - `features(x, *, train)` returns a map [B, h, w, F], or vectors [B, F].
    - `head(x, *, train)` returns the logits of pooled features [B, F].

    `pool` takes the mean over a map's positions unless a subclass defines its own. B may be a
    symbolic dimension, so that one exported program takes any batch: use x.shape[0], not len(x).
    """

    def __call__(self, x, *, train: bool = False):
        return self.head(self.encode(x, train=train), train=train)

    def encode(self, x, *, train: bool = False):
        """Returns the pooled features [B, F] of images [B, H, W, C]: the input of `head`."""
        return self.pool(self.features(x, train=train))

    def pool(self, x):
        """Returns vectors [B, F], given the output of `features`."""
        if x.ndim == 4:
            return x.mean((1, 2))
        return x

    def prepare(self, variables, images, transform):
        """Returns the variables with which training starts, given those that were drawn.

        A model that computes part of them from its training images, uint8 [N, H, W, C], and their
        `transform` overrides this method.
        """
        return variables
