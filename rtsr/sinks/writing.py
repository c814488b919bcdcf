"""What can go wrong while a file is written, in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error

from rtsr.errors import RtsrError, SinkError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def says_what_failed(path: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg raise into a SinkError that names the file."""
    try:
        yield
    except RtsrError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise SinkError(f"no space left to write {path}; free some and give the same command again") from error
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    except av.error.FFmpegError as error:
        raise SinkError(f"writing {path} failed: {error}") from error
