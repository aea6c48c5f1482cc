"""Keras on TensorFlow, trained by `model.fit` on NumPy arrays."""

import keras
import numpy as np
from keras import layers

from benchmarks.contestants import Run
from benchmarks.tasks import TASKS, Task


def cnn(x, classes: int):
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.MaxPooling2D()(layers.Conv2D(64, 3, activation="relu")(x))
    x = layers.Flatten()(layers.Conv2D(64, 3, activation="relu")(x))
    return layers.Dense(classes)(layers.Dense(64, activation="relu")(x))


def lstm(x, classes: int):
    x = layers.LSTM(128)(layers.Reshape((28, 28))(x))
    return layers.Dense(classes)(layers.Dense(64, activation="relu")(x))


def attention(x, classes: int):
    rows = layers.Dense(64)(layers.Reshape((28, 28))(x))
    query, key, value = (layers.Dense(64)(rows) for _ in range(3))
    attended = layers.Attention(use_scale=False)([query, value, key * 64**-0.5])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-3)(rows + attended))
    return layers.Dense(classes)(layers.Dense(128, activation="relu")(x))


def resnet(x, classes: int, *, blocks, filters, squeezed: int = 0, bias: bool = False):
    def conv_norm(x, width: int, kernel: int, stride: int):
        x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=bias)(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    x = layers.ReLU()(conv_norm(x, filters[0], 3, 1))
    if squeezed:
        gate = layers.Dense(squeezed, activation="relu")(
            layers.GlobalAveragePooling2D(keepdims=True)(x)
        )
        x = x * layers.Dense(filters[0], activation="sigmoid")(gate)
    for stage, (count, width) in enumerate(zip(blocks, filters, strict=True)):
        for i in range(count):
            stride = 2 if stage and not i else 1
            y = layers.ReLU()(conv_norm(x, width, 3, stride))
            y = conv_norm(y, width, 3, 1)
            if y.shape != x.shape:
                x = conv_norm(x, width, 1, stride)
            x = layers.ReLU()(x + y)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


MODELS = {
    "cnn": cnn,
    "lstm": lstm,
    "attention": attention,
    "cifar_cnn": cnn,
    "resnet20": lambda x, classes: resnet(
        x, classes, blocks=(3, 3, 3), filters=(16, 32, 64), bias=True
    ),
    "se_resnet": lambda x, classes: resnet(
        x, classes, blocks=(4, 4, 3), filters=(64, 128, 256), squeezed=4
    ),
}


def optimizer_of(task: Task) -> keras.optimizers.Optimizer:
    options = task.optimizer
    if options["name"] == "adam":
        return keras.optimizers.Adam(options["learning_rate"], epsilon=options["eps"])
    # Keras has no L2 for a whole model: its optimizer's decay is of the same cost.
    return keras.optimizers.SGD(
        options["learning_rate"],
        options["momentum"],
        weight_decay=options["weight_decay"],
        clipvalue=options["clip_value"],
    )


APPLICATIONS = {
    "efficientnet_b0": keras.applications.EfficientNetB0,
    "efficientnetv2_b0": keras.applications.EfficientNetV2B0,
    "convnext_tiny": keras.applications.ConvNeXtTiny,
    "resnet50": keras.applications.ResNet50,
}


def model_of(task_name: str) -> keras.Model:
    task = TASKS[task_name]
    inputs = keras.Input(task.image)
    if task.model in APPLICATIONS:
        options = {"weights": None, "classes": task.classes, "classifier_activation": None}
        return APPLICATIONS[task.model](input_tensor=inputs, **options)
    return keras.Model(inputs, MODELS[task_name](inputs, task.classes))


def create(task_name: str) -> Run:
    task = TASKS[task_name]
    images, labels = task.data()
    images = images.astype(np.float32) / 255
    model = model_of(task_name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer_of(task), loss, metrics=["accuracy"])
    per_epoch = len(labels) // task.batch_size

    def run(count: int) -> None:
        while count:
            steps = min(count, per_epoch)
            size = steps * task.batch_size
            model.fit(images[:size], labels[:size], batch_size=task.batch_size, verbose=0)
            count -= steps

    return run
