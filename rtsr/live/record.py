"""`--record FILE`: upscaled pictures at the times of their capture, and the source's sound."""

from __future__ import annotations

from pathlib import Path

import av

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import VideoSpec
from rtsr.live.contract import LiveSource, Shown
from rtsr.live.mux import LiveMuxer
from rtsr.sinks.codecs import container_format
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.media import ffmpeg_path

ENCODING = Encoding("libx264", crf=20, preset="ultrafast")  # a core has other work to do
# Readable up to the last seconds if this process is killed; an ordinary indexed file once it is closed.
_MP4 = {"movflags": "+hybrid_fragmented+frag_keyframe", "flush_packets": "1"}
_CONTAINERS = (".mkv", ".mp4")


class RecordSink:
    """Writes into path until close(). spec: of the pictures; one of another size is brought to that.

    Raises ConfigError for a name that cannot be, SinkError when it cannot be written.
    """

    name = "record"
    is_view = False

    def __init__(self, path: Path, spec: VideoSpec, source: LiveSource, overwrite: bool = False):
        if path.suffix.lower() not in _CONTAINERS:
            raise ConfigError(f"--record {path}: the suffix must be one of {', '.join(_CONTAINERS)}")
        if path.exists() and not overwrite:
            raise ConfigError(f"--record {path} exists; --overwrite replaces it")
        self.path = path
        self._closed = False
        encoder = ENCODING.resolve(path, spec)
        options = _MP4 if path.suffix.lower() == ".mp4" else {"flush_packets": "1", "live": "0"}
        with says_what_failed(path):
            output = av.open(ffmpeg_path(path), "w", format=container_format(path), container_options=options)
            self._muxer = LiveMuxer(output, encoder, spec, source.has_sound)
        self._deafen = source.listen(self._muxer.hear)

    def show(self, picture: Shown) -> bool:
        with says_what_failed(self.path):
            self._muxer.write(picture)
        return True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._deafen()
        with says_what_failed(self.path):
            self._muxer.close()
            if not self._muxer.frames:
                self.path.unlink(missing_ok=True)
                raise SinkError(f"{self.path}: no picture came, so nothing was recorded")
