"""EfficientNet-Lite0 in PyTorch, from the paper's table and the names in the file, to compare."""

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
    """A convolution with TensorFlow's padding: ceil(size / stride) outputs, the odd pixel last."""

    def forward(self, x):
        pads = []
        for axis in (3, 2):
            size = x.shape[axis]
            stride = self.stride[axis - 2]
            last_start = (-(-size // stride) - 1) * stride
            total = max(last_start + self.kernel_size[axis - 2] - size, 0)
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
            self._expand_conv = conv(inputs, wide, 1)
            self._bn0 = norm(wide)
        self._depthwise_conv = conv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = norm(wide)
        self._project_conv = conv(wide, outputs, 1)
        self._bn2 = norm(outputs)
        self.has_expansion = expansion > 1
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        y = x
        if self.has_expansion:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        if self.has_shortcut:
            return x + y
        return y


class Lite0(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self._conv_stem = conv(3, 32, 3, 2)
        self._bn0 = norm(32)
        blocks = []
        channels = 32
        for expansion, kernel, stride, outputs, repeats in ROWS:
            for repeat in range(repeats):
                block_stride = stride if repeat == 0 else 1
                blocks.append(Block(channels, expansion, kernel, block_stride, outputs))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = conv(channels, 1280, 1)
        self._bn1 = norm(1280)
        self.last_map = nn.ReLU6()
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, x):
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self.last_map(self._bn1(self._conv_head(x)))
        return self._fc(torch.mean(x, (2, 3)))
