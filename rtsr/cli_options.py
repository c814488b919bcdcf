"""Options that several commands share, each with its type and its help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Backend(StrEnum):
    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    onnxruntime_cuda = "onnxruntime-cuda"
    onnxruntime_tensorrt = "onnxruntime-tensorrt"
    tensorrt = "tensorrt"
    reference = "reference"


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class Precision(StrEnum):
    fp16 = "fp16"
    fp32 = "fp32"
    int8 = "int8"


class Deinterlace(StrEnum):
    auto = "auto"
    on = "on"
    off = "off"


class Degradation(StrEnum):
    stream = "stream"
    clean = "clean"


ScaleOption = Annotated[int, typer.Option(help="How many times larger: 2, 3 or 4.")]
ModelOption = Annotated[str, typer.Option(help="Generator: nano, fast, balanced or quality; see `rtsr engines`.")]
BackendOption = Annotated[Backend, typer.Option(help="What runs the engine; `reference` is plain bicubic.")]
DeviceOption = Annotated[
    Device | None, typer.Option(help="Where `--backend onnxruntime` runs: by its own provider or by one of NVIDIA's.")
]
DegradationOption = Annotated[
    Degradation, typer.Option(help="What the input went through: `stream` for real compressed video, `clean` for none.")
]
DetailOption = Annotated[
    float | None,
    typer.Option(
        help="From 0, faithful, to 1, sharper by invented texture, where the model has a detail end. [0]",
        metavar="0..1",
        show_default=False,
    ),
]
PrecisionOption = Annotated[Precision, typer.Option(help="What an NVIDIA GPU computes in; int8 is for TensorRT.")]
CodecOption = Annotated[
    str | None,
    typer.Option(
        help="libx264, libx265, libsvtav1, libvpx-vp9, prores, ffv1, libx264rgb, qtrle, png, h264_nvenc, "
        "hevc_nvenc, av1_nvenc. Unsaid: what the output's container plays best of those that keep the pixels.",
        show_default=False,
    ),
]
PresetOption = Annotated[str | None, typer.Option(help="Encoder speed, in the encoder's own words. [x264: veryfast]")]
AudioCodecOption = Annotated[
    str,
    typer.Option(
        help="Encode all sound with aac, libopus, flac, alac, ac3, eac3, mp3, pcm_s16le or pcm_s24le; `copy` keeps it."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
