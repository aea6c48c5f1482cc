"""EfficientNet-Lite0 in PyTorch, written for comparison alone: from the paper's table and the names in the file."""

import torch
from torch import nn
from torch.nn import functional

# For each row of the table: expansion, kernel, stride, channels, repeats.
ROWS = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: ceil(size / stride) places, the odd pixel at the end."""

    def forward(self, x):
        pads = []
        for axis in (3, 2):
            size, kernel, stride = x.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    def __init__(self, inputs: int, expansion: int, kernel: int, stride: int, outputs: int):
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = conv(inputs, wide, 1), norm(wide)
        self._depthwise_conv, self._bn1 = conv(wide, wide, kernel, stride, groups=wide), norm(wide)
        self._project_conv, self._bn2 = conv(wide, outputs, 1), norm(outputs)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x):
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self._conv_stem, self._bn0 = conv(3, 32, 3, 2), norm(32)
        blocks, channels = [], 32
        for expansion, kernel, stride, outputs, repeats in ROWS:
            for repeat in range(repeats):
                blocks.append(
                    Block(channels, expansion, kernel, stride if repeat == 0 else 1, outputs)
                )
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = conv(channels, 1280, 1), norm(1280)
        self.last_map = nn.ReLU6()
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, x):
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self.last_map(self._bn1(self._conv_head(x)))
        return self._fc(torch.mean(x, (2, 3)))
