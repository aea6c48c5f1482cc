"""TensorBoard's files, written with the `tensorboard` package alone.

CLU's writer and tf.summary need TensorFlow, which takes seconds to import and hundreds of MB of
memory, and is not available everywhere.
"""

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.plugins.text import summary_v2 as text_summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from imgcls_jax.foreign import open_to_append
from imgcls_jax.run.folder import EVENTS

FILE_VERSION = "brain.Event:2"  # the first event of a file says which format it has


class EventWriter:
    """Writes one of TensorBoard's files; its methods are those of CLU's SummaryWriter.

    folder: where the file is created. What is written is in the file after `flush` or `close`;
    between them no file is open.
    """

    def __init__(self, folder: Path):
        now = time.time()
        self._path = folder / f"{EVENTS}{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._buffer = io.BytesIO()
        self._add(Event(wall_time=now, file_version=FILE_VERSION))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            self._write(step, scalar_summary.scalar_pb(tag, value))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts, which TensorBoard shows as Markdown."""
        for tag, text in texts.items():
            self._write(step, text_summary.text_pb(tag, text))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images by tag, uint8 [N, H, W, 3] each."""
        for tag, pixels in images.items():
            height, width = pixels.shape[1:3]
            content = [str(width).encode(), str(height).encode()]
            content += [_png(image) for image in pixels]
            summary = Summary()
            summary.value.add(
                tag=tag,
                metadata=image_metadata.create_summary_metadata(None, None),
                tensor=make_tensor_proto(content),
            )
            self._write(step, summary)

    def write_hparams(self, options: Mapping[str, bool | int | float | str]) -> None:
        """Writes options for the HPARAMS tab, which shows those that differ first.

        A row with an id of its own would be called after it; this one is called after its run.
        """
        self._write(0, hparams_summary.hparams_pb(dict(options), trial_id=""))

    def _write(self, step: int, summary: Summary) -> None:
        self._add(Event(wall_time=time.time(), step=step, summary=summary))

    def _add(self, event: Event) -> None:
        RecordWriter(self._buffer).write(event.SerializeToString())

    def flush(self) -> None:
        with open_to_append(self._path) as file:
            file.write(self._buffer.getvalue())
        self._buffer = io.BytesIO()

    close = flush


def _png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
