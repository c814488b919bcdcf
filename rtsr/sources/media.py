"""What can be read: a file, a URL, or numbered pictures; opened through PyAV, with one sentence for whatever fails."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import av
import av.container
import av.error
import av.stream
import av.video.stream
from av.codec.hwaccel import HWAccel

from rtsr.errors import ConfigError, SourceError

# A tag in a wrong encoding is no reason to lose a film. PyAV 19 no longer has the option, and no longer fails.
_TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_LIVE = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srtp", "udp", "srt", "rist", "tcp", "mms", "mmsh", "pipe"}
# Formats that only name other files or addresses. One that somebody sent could so put a private film into the output.
_REFERRING = {"concat", "dash", "hls", "image2", "imf", "rtsp", "sdp", "vobsub"}
# A local file opens nothing but itself; a playlist on a server, nothing but what is on servers.
LOCAL_ONLY = {
    "protocol_whitelist": "file,crypto,data",
    "format_whitelist": ",".join(sorted(av.formats_available - _REFERRING)),
}
_REMOTE_ONLY = {"protocol_whitelist": "http,https,httpproxy,tcp,tls,ftp,crypto,data"}
_URL = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+)://")
_NUMBER = re.compile(r"%0?(?P<width>\d*)d")
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
DEFAULT_PICTURE_RATE = Fraction(25)  # FFmpeg's own
_TIMEOUT_S = (20.0, 60.0)  # to open a URL, and between two reads of it
_FINGERPRINT_BYTES = 4 << 20
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True, slots=True)
class Media:
    """What a user named as input. rate: frames a second of numbered pictures, which cannot tell it themselves.

    Raises ConfigError for a rate that is given and means nothing, or for a live stream.
    """

    name: str
    rate: Fraction | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not self.is_pictures:
            raise ConfigError(f"{self.name} has a frame rate of its own; --rate is for numbered pictures")
        if self.is_url and (scheme := urlsplit(self.name).scheme.lower()) in _LIVE:
            raise ConfigError(f"{self}: a {scheme} stream cannot be read twice, as upscaling a file needs; record it")

    def __str__(self) -> str:
        """The name as given, without a password."""
        if not self.is_url or "@" not in (address := urlsplit(self.name)).netloc:
            return self.name
        return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()

    @property
    def is_url(self) -> bool:
        return bool(_URL.match(self.name))

    @property
    def is_pictures(self) -> bool:
        """`frames/%05d.png` or `frames/*.png`, unless a file has just that name."""
        path = Path(self.name)
        pattern = bool(_NUMBER.search(path.name)) or "*" in path.name
        return pattern and path.suffix.lower() in PICTURE_SUFFIXES and not self.is_url and not path.exists()

    def pictures(self) -> list[Path]:
        """The files of numbered pictures in order. Raises SourceError for none, and for a gap between them."""
        path = Path(self.name)
        if "*" in path.name:
            found = sorted(path.parent.glob(path.name)) if path.parent.is_dir() else []
        else:
            numbers = picture_numbers(path)
            found = [numbered(path, number) for number in numbers]
            missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)) if numbers else []
            if missing:
                between = f"between {found[0].name} and {found[-1].name}"
                raise SourceError(f"{numbered(path, missing[0])} is missing {between}")
        if not found:
            raise SourceError(f"{self}: no such pictures")
        return found

    def open(self, hwaccel: HWAccel | None = None) -> av.container.InputContainer:
        """hwaccel: to decode with, where it is no picture. Raises SourceError in one sentence."""
        if self.is_pictures:
            return self._open_pictures(self.pictures())
        if self.is_url:
            return self._open(self.name, _REMOTE_ONLY, timeout=_TIMEOUT_S, hwaccel=hwaccel)
        path = Path(self.name)
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        if path.is_dir():
            raise SourceError(f"{path}: is a folder, not a video file")
        if not path.is_file():
            raise SourceError(f"{path}: is a pipe or a device, which cannot be read twice")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty (zero bytes)")
        return self._open(ffmpeg_path(path), LOCAL_ONLY, hwaccel=hwaccel)

    def fingerprint(self) -> dict[str, Any]:
        """What tells this input from another: sizes, and hashes of both ends of a file, without reading it whole."""
        if self.is_url:
            with self.open() as container:
                return {"url": str(self), "size": container.size, "duration": container.duration}
        paths = self.pictures() if self.is_pictures else [Path(self.name)]
        digest = hashlib.sha256()
        for path in paths if len(paths) == 1 else ():
            with path.open("rb") as file:
                digest.update(file.read(_FINGERPRINT_BYTES))
                file.seek(max(path.stat().st_size - _FINGERPRINT_BYTES, 0))
                digest.update(file.read())
        for path in paths if len(paths) > 1 else ():
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        size = sum(path.stat().st_size for path in paths)
        rate = {"rate": str(self.rate)} if self.rate else {}
        return {"size": size, "sha256_of_ends": digest.hexdigest(), **rate}

    def _open_pictures(self, files: list[Path]) -> av.container.InputContainer:
        path = Path(self.name)
        options = {"framerate": str(self.rate or DEFAULT_PICTURE_RATE)}
        if "*" in path.name:
            options["pattern_type"] = "glob"
        else:
            options |= {"pattern_type": "sequence", "start_number": str(picture_numbers(path)[0])}
        if len(files) == 1:
            options["pattern_type"], path = "none", files[0]
        return self._open(str(path), options, format="image2")

    def _open(self, name: Any, options: dict[str, str], **more: Any) -> av.container.InputContainer:
        try:
            return av.open(name, options=options, **more, **_TOLERANT)
        except av.error.ProtocolNotFoundError as error:
            raise SourceError(f"{self}: this build of FFmpeg does not speak {urlsplit(self.name).scheme}") from error
        except av.error.FFmpegError as error:
            why = error.strerror or error
            if isinstance(error, av.error.ArgumentError) and options is LOCAL_ONLY:  # not on the whitelist
                why = "or it is a list of other files: name those themselves"
            what = "cannot be read" if self.is_url else "not a video file that FFmpeg can open"
            raise SourceError(f"{self}: {what} ({why})") from error
        except OSError as error:
            raise SourceError(f"{self}: cannot be opened: {error.strerror or error}") from error


Input: TypeAlias = "Path | Media"


def open_input(media: Input, hwaccel: HWAccel | None = None) -> av.container.InputContainer:
    """Open a file, URL or numbered pictures for reading. Raises SourceError in one sentence."""
    return as_media(media).open(hwaccel)


def as_media(media: Input) -> Media:
    return media if isinstance(media, Media) else Media(str(media))


def ffmpeg_path(path: Path) -> str:
    """A local path as FFmpeg takes it, whatever its name: `12:30 talk.mkv` is no protocol."""
    return f"file:{path}"


def numbered(pattern: Path, number: int) -> Path:
    """The file of a pattern such as `frames/%05d.png`."""
    return pattern.with_name(_NUMBER.sub(lambda m: f"{number:0{m['width'] or 1}d}", pattern.name, count=1))


def picture_numbers(pattern: Path) -> list[int]:
    """The numbers for which a file of the pattern exists, rising."""
    before, after = (re.escape(part) for part in _split(pattern.name))
    name = re.compile(f"{before}(\\d+){after}")
    folder = pattern.parent
    numbers = (match[1] for path in folder.glob("*") if (match := name.fullmatch(path.name))) if folder.is_dir() else ()
    return sorted(int(number) for number in numbers if numbered(pattern, int(number)).exists())


def _split(name: str) -> tuple[str, str]:
    match = _NUMBER.search(name)
    assert match is not None, "a pattern has a number"
    return name[: match.start()], name[match.end() :]


def main_video(container: av.container.InputContainer, path: Input) -> av.video.stream.VideoStream:
    """The stream to upscale: the first video stream that is not a cover picture. Raises SourceError."""
    for stream in container.streams.video:
        if not is_cover(stream):
            if stream.codec_context is None:
                raise SourceError(f"{path}: its video codec is unknown to FFmpeg")
            return stream
    raise SourceError(f"{path}: has no video stream (it holds {_kinds(container)})")


def count_packets(path: Input) -> int:
    """Packets of the main video stream, without decoding. Raises SourceError."""
    with open_input(path) as container:
        stream = main_video(container, path)
        try:
            return sum(packet.size > 0 for packet in container.demux(stream))
        except av.error.FFmpegError as error:
            raise SourceError(f"{path}: reading failed: {error.strerror}") from error


def last_moment(path: Input) -> Fraction:
    """When the last packet of any stream ends, in seconds, without decoding. Raises SourceError."""
    last = Fraction(0)
    with open_input(path) as container:
        try:
            for packet in container.demux():
                stamp = packet.pts if packet.pts is not None else packet.dts
                if packet.size and stamp is not None and packet.time_base is not None:
                    last = max(last, (stamp + (packet.duration or 0)) * packet.time_base)
        except av.error.FFmpegError as error:
            raise SourceError(f"{path}: reading failed: {error.strerror}") from error
    return last


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture for the file's icon, not a film."""
    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def _kinds(container: av.container.InputContainer) -> str:
    kinds = [stream.type or "unknown" for stream in container.streams]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "no streams at all"


def decoder_of(stream: av.video.stream.VideoStream) -> Any:
    """The stream's decoder; for VP8 and VP9 with alpha libvpx's, because FFmpeg's own leave it out."""
    name = stream.codec_context.codec.canonical_name
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if tags.get("alpha_mode") != "1" or name not in _ALPHA_DECODERS:
        return stream.codec_context
    decoder = av.CodecContext.create(_ALPHA_DECODERS[name], "r")
    decoder.thread_type = "AUTO"
    return decoder
