"""TensorBoard's event files: TFRecords of protocol buffers, written where they are made.

(tensorboardX's SummaryWriter has a thread that dies of a full disk and a queue that then blocks.)
"""

from __future__ import annotations

import os
import pathlib
import socket
import struct
import time

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from prompt_tuning_jax.errors import naming


class Board:
    """Scalars over steps, in one file of `folder`; what others have there from `step` on is void"""

    def __init__(self, folder: pathlib.Path, step: int):
        folder.mkdir(exist_ok=True)
        began = time.time()
        name = f"events.out.tfevents.{int(began):010d}.{socket.gethostname()}.{os.getpid()}"
        self._name = folder / name
        self._file = self._name.open("ab")
        self._add(Event(wall_time=began, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.SessionStatus.START)
        self._add(Event(wall_time=began, step=step, session_log=start))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Values by tag. OSError where they cannot be written."""
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def _add(self, event: Event) -> None:
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        with naming(self._name):
            self._file.write(length + sums[0] + content + sums[1])
            self._file.flush()

    def close(self) -> None:
        """Nothing is in buffers: every record was flushed."""
        self._file.close()
