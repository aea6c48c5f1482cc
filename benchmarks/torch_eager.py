"""Eager PyTorch on the CPU: the same models, optimizers and batches, on all cores."""

import os
import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contestants import Run
from benchmarks.tasks import BACKBONES, EVERYTHING, NOTHING, TASKS, Task


def cnn(
    classes: int,
    *,
    channels: int,
    positions: int,
) -> nn.Sequential:
    """Report B's CNN. positions: height times width of its last feature map."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * positions, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


class VGG(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        layers = []
        inputs = 3
        for width in (32, 48, 64, 128):
            if layers:
                layers += [nn.MaxPool2d(2), nn.Dropout(0.2)]
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(inputs, 512),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(512, classes),
        )

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class LSTMClassifier(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.lstm = nn.LSTM(28, 128, batch_first=True)
        self.head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        outputs, _ = self.lstm(x[:, 0])
        return self.head(outputs[:, -1])


class SelfAttention(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.embed = nn.Linear(28, 64)
        self.query = nn.Linear(64, 64)
        self.key = nn.Linear(64, 64)
        self.value = nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64, eps=1e-3)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(28 * 64, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )

    def forward(self, x):
        rows = self.embed(x[:, 0])
        attended = F.scaled_dot_product_attention(
            self.query(rows),
            self.key(rows),
            self.value(rows),
        )
        return self.head(self.norm(rows + attended))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, squeezed),
            nn.ReLU(),
            nn.Linear(squeezed, channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        gate = self.gate(x.mean((2, 3)))
        return x * gate[:, :, None, None]


def conv_norm(
    inputs: int,
    filters: int,
    kernel: int,
    stride: int,
    bias: bool,
) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, filters, kernel, stride, padding, bias=bias),
        nn.BatchNorm2d(filters),
    )


class BasicBlock(nn.Module):
    def __init__(
        self,
        inputs: int,
        filters: int,
        stride: int,
        bias: bool,
    ):
        super().__init__()
        self.first = conv_norm(inputs, filters, 3, stride, bias)
        self.second = conv_norm(filters, filters, 3, 1, bias)
        if stride > 1 or inputs != filters:
            self.shortcut = conv_norm(inputs, filters, 1, stride, bias)
        else:
            self.shortcut = nn.Identity()

    def forward(self, x):
        y = F.relu(self.first(x))
        return F.relu(self.second(y) + self.shortcut(x))


class CifarResNet(nn.Module):
    def __init__(
        self,
        classes: int,
        *,
        blocks,
        filters,
        squeezed: int = 0,
        bias: bool = False,
    ):
        super().__init__()
        layers = [conv_norm(3, filters[0], 3, 1, bias), nn.ReLU()]
        if squeezed:
            layers.append(SqueezeExcite(filters[0], squeezed))
        inputs = filters[0]
        for stage, (count, width) in enumerate(zip(blocks, filters, strict=True)):
            for i in range(count):
                stride = 1
                if stage > 0 and i == 0:
                    stride = 2
                layers.append(BasicBlock(inputs, width, stride, bias))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def resnet20(classes: int) -> CifarResNet:
    return CifarResNet(classes, blocks=(3, 3, 3), filters=(16, 32, 64), bias=True)


def se_resnet(classes: int) -> CifarResNet:
    return CifarResNet(classes, blocks=(4, 4, 3), filters=(64, 128, 256), squeezed=4)


MODELS = {
    "cnn": lambda classes: cnn(classes, channels=1, positions=9),
    "lstm": LSTMClassifier,
    "attention": SelfAttention,
    "cifar_cnn": lambda classes: cnn(classes, channels=3, positions=16),
    "vgg": VGG,
    "resnet20": resnet20,
    "se_resnet": se_resnet,
}


def backbone(name: str, classes: int) -> nn.Module:
    """Returns torchvision's architecture of that name, with random weights."""
    # torchvision's compiled operations do not load with every build of torch. These models do not
    # need them, but importing torchvision needs their declarations.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operation in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operation):
            library.define(
                f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    from torchvision import models

    options = {}
    if name == "googlenet":
        options = {"init_weights": False, "aux_logits": False}
    return models.get_model(name, weights=None, num_classes=classes, **options)


def model_of(task: Task, name: str) -> nn.Module:
    """Returns the task's model, with the parameters frozen that do not train."""
    if task.model in BACKBONES:
        model = backbone(task.model, task.classes)
    else:
        model = MODELS[name](task.classes)
    if task.trains not in (EVERYTHING, NOTHING):
        for path, parameter in model.named_parameters():
            parameter.requires_grad = bool(re.search(task.trains, path))
    return model


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def optimizer_of(task: Task, model: nn.Module) -> torch.optim.Optimizer:
    options = task.optimizer
    parameters = trainable_parameters(model)
    if options["name"] == "adam":
        return torch.optim.Adam(parameters, options["learning_rate"], eps=options["eps"])
    return torch.optim.SGD(
        parameters,
        options["learning_rate"],
        options["momentum"],
        weight_decay=options["weight_decay"],
    )


def create(task_name: str, *, layout: str = "contiguous") -> Run:
    """layout: contiguous (NCHW) or channels_last."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    task = TASKS[task_name]
    memory_format = torch.contiguous_format
    if layout == "channels_last":
        memory_format = torch.channels_last
    images, labels = task.data()
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    images = images.contiguous(memory_format=memory_format)
    labels = torch.from_numpy(labels).long()
    model = model_of(task, task_name.removesuffix("_predict"))
    model = model.to(memory_format=memory_format)
    if task.trains == NOTHING:
        return _prediction(model.eval(), images, task.batch_size)
    model.train()
    if task.trains != EVERYTHING:
        _freeze_statistics(model)
    batches = _shuffled_batches(images, labels, task.batch_size)
    return _training(model, optimizer_of(task, model), batches, task.optimizer.get("clip_value"))


def _freeze_statistics(model: nn.Module) -> None:
    """Puts frozen layers into evaluation mode, as ours are."""
    for module in model.modules():
        if not trainable_parameters(module):
            module.eval()


def _training(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    clip_value: float | None,
) -> Run:
    def run(count: int) -> None:
        loss_sum = 0.0
        num_correct = 0
        for _ in range(count):
            x, y = next(batches)
            optimizer.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            if clip_value:
                nn.utils.clip_grad_value_(trainable_parameters(model), clip_value)
            optimizer.step()
            loss_sum += loss.item()
            num_correct += (logits.argmax(1) == y).sum().item()

    return run


def _prediction(
    model: nn.Module,
    images: torch.Tensor,
    batch_size: int,
) -> Run:
    """Returns the computation of the logits of batches."""

    def run(count: int) -> None:
        with torch.inference_mode():
            for step in range(count):
                start = step * batch_size % (len(images) - batch_size + 1)
                model(images[start : start + batch_size]).numpy()

    return run


def _shuffled_batches(
    images: torch.Tensor,
    labels: torch.Tensor,
    batch_size: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields batches without end.

    Each epoch shuffles the whole set, which costs less than a DataLoader.
    """
    while True:
        order = torch.randperm(len(images))
        images, labels = images[order], labels[order]
        for start in range(0, len(images) - batch_size + 1, batch_size):
            end = start + batch_size
            yield images[start:end], labels[start:end]
