"""Eager PyTorch on the CPU: the same models, optimizers and batches, on all cores."""

import os
import re

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contestants import Run
from benchmarks.tasks import BACKBONES, EVERYTHING, NOTHING, TASKS, Task


class CNN(nn.Sequential):
    def __init__(self, classes: int, channels: int = 1, places: int = 9):
        super().__init__(
            *(nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * places, 64), nn.ReLU(), nn.Linear(64, classes)),
        )


class VGG(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        layers, inputs = [], 3
        for width in (32, 48, 64, 128):
            if layers:
                layers += [nn.MaxPool2d(2), nn.Dropout(0.2)]
            for channels in (inputs, width):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, classes)
        )

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class LSTMClassifier(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.lstm = nn.LSTM(28, 128, batch_first=True)
        self.head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        return self.head(self.lstm(x[:, 0])[0][:, -1])


class SelfAttention(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.embed = nn.Linear(28, 64)
        self.query, self.key, self.value = (nn.Linear(64, 64) for _ in range(3))
        self.norm = nn.LayerNorm(64, eps=1e-3)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 64, 128), nn.ReLU(), nn.Linear(128, classes)
        )

    def forward(self, x):
        rows = self.embed(x[:, 0])
        attended = F.scaled_dot_product_attention(
            self.query(rows), self.key(rows), self.value(rows)
        )
        return self.head(self.norm(rows + attended))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


def conv_norm(inputs: int, filters: int, kernel: int, stride: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=bias), nn.BatchNorm2d(filters)
    )


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, filters: int, stride: int, bias: bool):
        super().__init__()
        self.first = conv_norm(inputs, filters, 3, stride, bias)
        self.second = conv_norm(filters, filters, 3, 1, bias)
        changes = stride > 1 or inputs != filters
        self.shortcut = conv_norm(inputs, filters, 1, stride, bias) if changes else nn.Identity()

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class CifarResNet(nn.Module):
    def __init__(self, classes: int, *, blocks, filters, squeezed: int = 0, bias: bool = False):
        super().__init__()
        layers = [conv_norm(3, filters[0], 3, 1, bias), nn.ReLU()]
        if squeezed:
            layers.append(SqueezeExcite(filters[0], squeezed))
        inputs = filters[0]
        for stage, (count, width) in enumerate(zip(blocks, filters, strict=True)):
            for i in range(count):
                layers.append(BasicBlock(inputs, width, 2 if stage and not i else 1, bias))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


MODELS = {
    "cnn": CNN,
    "lstm": LSTMClassifier,
    "attention": SelfAttention,
    "cifar_cnn": lambda classes: CNN(classes, channels=3, places=16),
    "vgg": VGG,
    "resnet20": lambda classes: CifarResNet(
        classes, blocks=(3, 3, 3), filters=(16, 32, 64), bias=True
    ),
    "se_resnet": lambda classes: CifarResNet(
        classes, blocks=(4, 4, 3), filters=(64, 128, 256), squeezed=4
    ),
}


def backbone(name: str, classes: int) -> nn.Module:
    """torchvision's architecture of that name, with random weights."""
    # torchvision's compiled operations do not load with every build of torch; these models need none of them, but
    # importing it needs their declarations.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operation in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operation):
            library.define(
                f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    from torchvision import models

    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    return models.get_model(name, weights=None, num_classes=classes, **options)


def model_of(task: Task, name: str) -> nn.Module:
    """The task's model; what does not train of it is frozen."""
    model = (
        backbone(task.model, task.classes)
        if task.model in BACKBONES
        else MODELS[name](task.classes)
    )
    if task.trains not in (EVERYTHING, NOTHING):
        for path, parameter in model.named_parameters():
            parameter.requires_grad = bool(re.search(task.trains, path))
    return model


def optimizer_of(task: Task, model: nn.Module) -> torch.optim.Optimizer:
    options, parameters = task.optimizer, [p for p in model.parameters() if p.requires_grad]
    if options["name"] == "adam":
        return torch.optim.Adam(parameters, options["learning_rate"], eps=options["eps"])
    return torch.optim.SGD(
        parameters,
        options["learning_rate"],
        options["momentum"],
        weight_decay=options["weight_decay"],
    )


def create(task_name: str, *, layout: str = "contiguous") -> Run:
    """layout: contiguous (NCHW) | channels_last."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    task = TASKS[task_name]
    images, labels = task.data()
    images, labels = (
        torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
        torch.from_numpy(labels).long(),
    )
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    images = images.contiguous(memory_format=memory_format)
    model = model_of(task, task_name.removesuffix("_predict")).to(memory_format=memory_format)
    if task.trains == NOTHING:
        return _prediction(model.eval(), images, task.batch_size)
    model.train()
    if task.trains != EVERYTHING:  # frozen layers run as in evaluation, as here
        for module in model.modules():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
    optimizer, clip = optimizer_of(task, model), task.optimizer.get("clip_value")
    batches = _shuffled(images, labels, task.batch_size)

    def run(count: int) -> None:
        loss_sum = correct = 0.0
        for _ in range(count):
            x, y = next(batches)
            optimizer.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            if clip:
                nn.utils.clip_grad_value_((p for p in model.parameters() if p.requires_grad), clip)
            optimizer.step()
            loss_sum += loss.item()
            correct += (logits.argmax(1) == y).sum().item()

    return run


def _prediction(model: nn.Module, images: torch.Tensor, batch_size: int) -> Run:
    """Logits of so many batches."""

    def run(count: int) -> None:
        with torch.inference_mode():
            for step in range(count):
                start = step * batch_size % (len(images) - batch_size + 1)
                model(images[start : start + batch_size]).numpy()

    return run


def _shuffled(images, labels, batch_size: int):
    """Batches without end; the set is shuffled as a whole each epoch, which costs less than a DataLoader."""
    while True:
        order = torch.randperm(len(images))
        images, labels = images[order], labels[order]
        for start in range(0, len(images) - batch_size + 1, batch_size):
            yield images[start : start + batch_size], labels[start : start + batch_size]
