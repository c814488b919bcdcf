"""`rtsr engines`: what is installed, and `rtsr engines build`: TensorRT plans ahead of time. Light to import."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rtsr.cli_options import JsonOption, ModelOption, ScaleOption
from rtsr.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from rtsr.backends.cuda.libraries import Gpu
    from rtsr.backends.gpu_graph import Picture
    from rtsr.backends.trt_package import Package

engines = typer.Typer(
    help="List the installed engines with the figures of their manifests; build TensorRT plans.\n\n"
    "Example: `RTSR_ENGINES=folder rtsr engines` lists, and every command then uses, engines of your own."
)


@engines.callback(invoke_without_command=True)
def list_engines(
    context: typer.Context,
    as_json: JsonOption = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from rtsr.manifest import engines_folder, installed_engines

    found = installed_engines()
    if as_json:
        print(json.dumps([asdict(engine) for engine in found]))
        return
    from rtsr.display import engines_table

    if not found:
        raise ConfigError(f"no engines in {engines_folder()}")
    engines_table(found)


@engines.command()
def build(
    size: Annotated[
        list[str] | None, typer.Option(metavar="WxH", help="Of the input; several are allowed.", show_default=False)
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="A film whose size and pixel format to take.", show_default=False)
    ] = None,
    scale: ScaleOption = 4,
    model: ModelOption = "balanced",
    degradation: Annotated[str, typer.Option(help="stream (compressed) or clean.")] = "stream",
    detail: Annotated[
        float | None, typer.Option(help="How far to the detail end, 0 to 1; each share has a plan.", show_default=False)
    ] = None,
    precision: Annotated[str, typer.Option(help="fp16, fp32 or int8.")] = "fp16",
    pix_fmt: Annotated[str, typer.Option(help="Pixel format of the input, in FFmpeg's words.")] = "yuv420p",
    batch: Annotated[int, typer.Option(help="The most pictures at once; `rtsr upscale` takes one.", min=1)] = 1,
) -> None:
    """Build TensorRT plans, so that no film has to wait for one.

    TensorRT builds them for the GPU at hand. TensorRT-RTX needs neither GPU nor driver, and its plans run on any.

    Example: `rtsr engines build --model fast --scale 2 --size 1920x1080 --size 1280x720`
    """
    from rtsr.backends import EngineChoice, find_ladder

    pictures = _pictures(size or [], for_, pix_fmt, scale)
    choice = EngineChoice(scale, model, degradation, "tensorrt", precision=precision, detail=detail)
    manifest = find_ladder(choice, _note)
    gpu, package = _gpu_and_package()
    try:
        from rtsr.backends.trt_build import kept_plan, ready_plan, recipe
    except ImportError as error:
        raise ConfigError(f"building plans needs a package ({error}): pip install onnx") from error
    from rtsr.display import show_share

    for picture in pictures:
        made = recipe(package, gpu, manifest, picture, precision, batch)
        if kept_plan(made, _note) is not None:
            print(f"{made.path}: here already")
            continue
        with show_share(f"{made}, {precision}, {package.name} {package.version}") as progress:
            plan = ready_plan(package, made, _note, progress)
        print(f"{made.path}: {len(plan) / 1e6:.1f} MB")


def _pictures(sizes: list[str], film: str | None, pix_fmt: str, scale: int) -> list[Picture]:
    """What to build for. Raises ConfigError, SourceError."""
    from rtsr.backends.gpu_graph import Picture
    from rtsr.frames import ChromaSiting
    from rtsr.options import parse_size
    from rtsr.pixels import PixelFormat

    pixels = PixelFormat.of(pix_fmt)
    if pixels is None:
        raise ConfigError(f"--pix-fmt {pix_fmt!r} is no format that rtsr reads")
    pictures = []
    for text in sizes:
        width, height = parse_size(text)
        if width is None:
            raise ConfigError(f"--size {text!r}: write both sides, as 1920x1080")
        pictures.append(Picture(height, width, scale, pixels))
    if film is not None:
        from contextlib import closing

        from rtsr.sources.file import FileSource
        from rtsr.sources.media import Media

        with closing(FileSource(Media(film))) as source:
            spec = source.spec
        siting = spec.siting or ChromaSiting.LEFT
        pictures.append(Picture(spec.height, spec.width, scale, spec.pixels, siting))
    if not pictures:
        raise ConfigError("for which size? Pass --size 1920x1080, or --for with a film")
    return pictures


def _gpu_and_package() -> tuple[Gpu | None, Package]:
    """No GPU where none answers and TensorRT-RTX is installed, which builds without."""
    from rtsr.backends.cuda.libraries import open_gpu
    from rtsr.backends.trt_package import load_package

    try:
        gpu = open_gpu()
    except EngineError:
        package = load_package(None)
        if not package.is_rtx:
            raise
        return None, package
    return gpu, load_package(gpu)


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr, flush=True)
