"""What a user can ask of a job, checked as far as that goes without the input."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction

from rtsr.backends import EngineChoice
from rtsr.cluster.connection import Cluster
from rtsr.color import matrix_of
from rtsr.devices import Device
from rtsr.errors import ConfigError
from rtsr.frames import VideoSpec
from rtsr.manifest import installed_engines
from rtsr.sinks.audio import COPY, audio_encoder
from rtsr.sinks.encoding import Encoding
from rtsr.sources.deinterlace import MODES

LARGEST_SCALE = 4


@dataclass(frozen=True, slots=True)
class Options:
    """How to upscale. Raises ConfigError for what cannot work whatever the input is.

    scale: 2, 3 or 4; None means 4, or with `to` the smallest that reaches it. to: `2160p` or `3840x2160`, the size of
    the output. model: tier of the generator. backend: see rtsr.backends. degradation: `stream` for real compressed
    video, `clean` for pictures that were only made smaller. start, end: seconds, a trim that cuts picture and sound
    alike. rate: frames a second of numbered pictures. deinterlace: `auto`, `on` or `off`. overwrite: replace an output
    that exists. drop_unsupported: leave out what the output cannot hold. restart: begin an interrupted job anew.
    audio_codec: `copy`, or what all sound is encoded with anew, see AUDIO_ENCODERS. no_audio: leave sound out.
    precision: of TensorRT's plan: fp16, fp32 or int8. wait_for_engine: don't begin on the CPU while a plan is built.
    devices: where to run, several of which share the film out, see rtsr.devices.parse_devices; empty: where the backend
    runs by itself. cluster: the Ray cluster whose machines share the film out. detail: how far to the generator's
    detail end, 0..1, see EngineChoice.
    """

    scale: int | None = None
    to: str | None = None
    model: str = "balanced"
    backend: str = "auto"
    degradation: str = "stream"
    encoding: Encoding = field(default_factory=Encoding)
    start: Fraction | float | None = None
    end: Fraction | float | None = None
    rate: Fraction | None = None
    deinterlace: str = "auto"
    overwrite: bool = False
    drop_unsupported: bool = False
    restart: bool = False
    audio_codec: str = COPY
    no_audio: bool = False
    devices: tuple[Device, ...] = ()
    precision: str = "fp16"
    wait_for_engine: bool = False
    cluster: Cluster | None = None
    detail: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and self.to is not None:
            raise ConfigError("--scale and --to both say how large the output becomes; give one of them")
        scale = LARGEST_SCALE if self.scale is None else self.scale
        EngineChoice(scale, self.model, self.degradation, self.backend, precision=self.precision, detail=self.detail)
        if self.to is not None:
            parse_size(self.to)
        if self.deinterlace not in MODES:
            raise ConfigError(f"unknown --deinterlace {self.deinterlace!r}; known: {', '.join(MODES)}")
        if self.rate is not None and self.rate <= 0:
            raise ConfigError(f"--rate {float(self.rate):g} must be more than 0")
        if self.audio_codec != COPY:
            audio_encoder(self.audio_codec)
            if self.no_audio:
                raise ConfigError(
                    f"--no-audio leaves nothing to do for --audio-codec {self.audio_codec}; give one of them"
                )
        if self.cluster and self.devices:
            raise ConfigError("--cluster and --devices both say who does the work; give one of them")
        start, end = self.trim
        if start is not None and start < 0:
            raise ConfigError(f"--start {float(start)} is negative")
        if end is not None and end <= (start or 0):
            raise ConfigError(f"--end {float(end)} must be later than --start {float(start or 0)}")

    @property
    def trim(self) -> tuple[Fraction | None, Fraction | None]:
        """start and end, exact."""
        start = Fraction(self.start).limit_denominator(1_000_000) if self.start else None
        end = Fraction(self.end).limit_denominator(1_000_000) if self.end is not None else None
        return start, end

    @property
    def audio(self) -> str | None:
        """What becomes of sound, as plan_streams() takes it."""
        return None if self.no_audio else self.audio_codec

    def choice(self, scale: int, spec: VideoSpec) -> EngineChoice:
        """The engine for a video. An untold matrix is guessed here: engines see tiles, which tell nothing of it."""
        color = replace(spec.color, colorspace=matrix_of(spec.color.colorspace, spec.height))
        return replace(self.engine(scale, spec.pixels.bits), color=color)

    def engine(self, scale: int, bits: int) -> EngineChoice:
        """The engine for samples of so many bits, whatever their colours."""
        made = EngineChoice(scale, self.model, self.degradation, self.backend, bits)
        return replace(made, precision=self.precision, detail=self.detail)

    def scale_and_size(self, spec: VideoSpec) -> tuple[int, tuple[int, int]]:
        """The engine's scale and the output's (width, height) for a video of this size. Raises ConfigError."""
        if self.to is None:
            scale = self.scale or LARGEST_SCALE
            return scale, (spec.width * scale, spec.height * scale)
        width, height = parse_size(self.to)
        if width is None:
            width = 2 * round(spec.width * height / spec.height / 2)
        elif abs(width * spec.height - height * spec.width) > max(spec.width, spec.height):
            raise ConfigError(f"--to {self.to} would distort {spec.width}x{spec.height}; name its height alone")
        if width < spec.width or height < spec.height:
            raise ConfigError(f"--to {self.to} is smaller than the input, {spec.width}x{spec.height}")
        for scale in self._scales():
            if spec.width * scale >= width and spec.height * scale >= height:
                return scale, (width, height)
        largest = max(self._scales())
        raise ConfigError(
            f"--to {self.to} is more than {largest} times {spec.width}x{spec.height}, which is what {self.model} can do"
        )

    def _scales(self) -> list[int]:
        """What the engines can enlarge by, smallest first."""
        if self.backend == "reference":
            return [2, 3, 4]
        choice = self.engine(LARGEST_SCALE, 8)
        engines = [e for e in installed_engines() if (e.tier, e.degradation) == (choice.generator, self.degradation)]
        return sorted({e.scale for e in engines if e.detail or not choice.share}) or [LARGEST_SCALE]


def parse_size(text: str) -> tuple[int | None, int]:
    """(width, height) from `3840x2160`, (None, height) from `2160p`. Raises ConfigError."""
    match = re.fullmatch(r"(?:(\d{1,5})x(\d{1,5})|(\d{1,5})p)", text)
    width, height = (match[1], match[2] or match[3]) if match else (None, None)
    if match is None or int(height or 0) < 2 or (width is not None and int(width) < 2):
        raise ConfigError(f"--to {text!r} is no size; write a height as 2160p, or both sides as 3840x2160")
    return (int(width) if width else None), int(height or 0)
