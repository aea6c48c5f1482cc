"""Keras on TensorFlow, trained by `model.fit` on NumPy arrays."""

import keras
import numpy as np
from keras import layers

from benchmarks.contestants import Run
from benchmarks.tasks import TASKS, Task


def cnn(x, classes: int):
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    return layers.Dense(classes)(x)


def lstm(x, classes: int):
    x = layers.Reshape((28, 28))(x)
    x = layers.LSTM(128)(x)
    x = layers.Dense(64, activation="relu")(x)
    return layers.Dense(classes)(x)


def attention(x, classes: int):
    rows = layers.Dense(64)(layers.Reshape((28, 28))(x))
    query = layers.Dense(64)(rows)
    key = layers.Dense(64)(rows)
    value = layers.Dense(64)(rows)
    attended = layers.Attention(use_scale=False)([query, value, key * 64**-0.5])
    x = layers.LayerNormalization(epsilon=1e-3)(rows + attended)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dense(classes)(x)


def resnet20(x, classes: int):
    x = layers.ReLU()(conv_norm(x, 16, kernel=3, stride=1, bias=True))
    x = residual_stages(x, blocks=(3, 3, 3), filters=(16, 32, 64), bias=True)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(classes)(x)


def se_resnet(x, classes: int):
    x = layers.ReLU()(conv_norm(x, 64, kernel=3, stride=1, bias=False))
    x = squeeze_excite(x, filters=64, squeezed=4)
    x = residual_stages(x, blocks=(4, 4, 3), filters=(64, 128, 256), bias=False)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(classes)(x)


def residual_stages(x, *, blocks, filters, bias: bool):
    for stage, (count, width) in enumerate(zip(blocks, filters, strict=True)):
        for i in range(count):
            stride = 1
            if stage > 0 and i == 0:
                stride = 2
            y = layers.ReLU()(conv_norm(x, width, kernel=3, stride=stride, bias=bias))
            y = conv_norm(y, width, kernel=3, stride=1, bias=bias)
            if y.shape != x.shape:
                x = conv_norm(x, width, kernel=1, stride=stride, bias=bias)
            x = layers.ReLU()(x + y)
    return x


def conv_norm(
    x,
    width: int,
    *,
    kernel: int,
    stride: int,
    bias: bool,
):
    x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=bias)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def squeeze_excite(x, *, filters: int, squeezed: int):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Dense(squeezed, activation="relu")(gate)
    return x * layers.Dense(filters, activation="sigmoid")(gate)


MODELS = {
    "cnn": cnn,
    "lstm": lstm,
    "attention": attention,
    "cifar_cnn": cnn,
    "resnet20": resnet20,
    "se_resnet": se_resnet,
}
APPLICATIONS = {
    "efficientnet_b0": keras.applications.EfficientNetB0,
    "efficientnetv2_b0": keras.applications.EfficientNetV2B0,
    "convnext_tiny": keras.applications.ConvNeXtTiny,
    "resnet50": keras.applications.ResNet50,
}


def optimizer_of(task: Task) -> keras.optimizers.Optimizer:
    options = task.optimizer
    if options["name"] == "adam":
        return keras.optimizers.Adam(options["learning_rate"], epsilon=options["eps"])
    # Keras has no L2 penalty for a whole model; its optimizer's weight decay costs the same.
    return keras.optimizers.SGD(
        options["learning_rate"],
        options["momentum"],
        weight_decay=options["weight_decay"],
        clipvalue=options["clip_value"],
    )


def model_of(task_name: str) -> keras.Model:
    task = TASKS[task_name]
    inputs = keras.Input(task.image)
    if task.model in APPLICATIONS:
        return APPLICATIONS[task.model](
            input_tensor=inputs,
            weights=None,
            classes=task.classes,
            classifier_activation=None,
        )
    return keras.Model(inputs, MODELS[task_name](inputs, task.classes))


def create(task_name: str) -> Run:
    task = TASKS[task_name]
    images, labels = task.data()
    images = images.astype(np.float32) / 255
    model = model_of(task_name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer_of(task), loss, metrics=["accuracy"])
    steps_per_epoch = len(labels) // task.batch_size

    def run(count: int) -> None:
        while count:
            steps = min(count, steps_per_epoch)
            size = steps * task.batch_size
            model.fit(images[:size], labels[:size], batch_size=task.batch_size, verbose=0)
            count -= steps

    return run
