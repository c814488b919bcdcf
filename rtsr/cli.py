"""argv -> objects -> run(): the file that prints and exits. What a command does lies in the module it names."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rtsr import __version__
from rtsr.cli_options import (
    AudioCodecOption,
    Backend,
    BackendOption,
    CodecOption,
    Degradation,
    DegradationOption,
    Deinterlace,
    DetailOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    Precision,
    PrecisionOption,
    PresetOption,
    ScaleOption,
)
from rtsr.compare.command import compare
from rtsr.doctor.command import doctor
from rtsr.engines_command import engines
from rtsr.errors import Interrupted, RtsrError
from rtsr.live.command import LiveCommand, live
from rtsr.parse import parse_pairs, parse_rate, parse_time

app = typer.Typer(
    name="rtsr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Real-time video upscaling that changes nothing but the size of the picture.",
    epilog="""Examples:

- `rtsr upscale movie.mp4 -o movie_4x.mp4` is all that most people need

- `rtsr plan movie.mp4 -o movie_4x.mp4` says beforehand what would happen, and how long it takes

- `rtsr live --webcam --web` shows the camera upscaled, on a page

- `rtsr compare movie.mp4 movie_4x.mp4 -o look.html` makes a page with a line to drag

- `rtsr doctor` when something does not work

`rtsr upscale --help` explains that command, and so for the others. RTSR_DEBUG=1 shows tracebacks.""",
)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"rtsr {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


@app.command()
def upscale(
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The file to write: .mp4 .mov .mkv .webm .ts .avi .gif, a picture (.png .jpg .tif .webp .avif .bmp), "
            "numbered pictures (out/%05d.png); the folder for many files.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="A film, a picture, a URL, numbered pictures (frames/%05d.png); or many: folders, globs, @LISTs.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[int | None, typer.Option(help="How many times larger: 2, 3 or 4. [4]", show_default=False)] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="The output's size instead: 2160p or 3840x2160. The next engine up, then Lanczos down.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = "balanced",
    backend: BackendOption = Backend.auto,
    device: DeviceOption = None,
    degradation: DegradationOption = Degradation.stream,
    detail: DetailOption = None,
    codec: CodecOption = None,
    crf: Annotated[int | None, typer.Option(help="Quality, lower is better. [x264: 18, x265: 20, av1: 27]")] = None,
    bitrate: Annotated[
        str | None, typer.Option(help="Bits a second instead of --crf: 8M, 2500k.", show_default=False)
    ] = None,
    preset: PresetOption = None,
    pix_fmt: Annotated[
        str | None, typer.Option(help="Pixel format to write, in FFmpeg's words. [as the input's]", show_default=False)
    ] = None,
    codec_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option for the encoder, in its own words.", show_default=False),
    ] = None,
    deinterlace: Annotated[
        Deinterlace, typer.Option(help="bwdif, one frame for each frame; auto: interlaced frames only.")
    ] = Deinterlace.auto,
    rate: Annotated[
        str | None, typer.Option(help="Frames a second of numbered pictures: 24, 30000/1001. [25]", show_default=False)
    ] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds or hh:mm:ss.", metavar="TIME")] = None,
    end: Annotated[str | None, typer.Option(help="Stop here: seconds or hh:mm:ss.", metavar="TIME")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    drop_unsupported: Annotated[
        bool, typer.Option("--drop-unsupported", help="Leave out what the output's container cannot hold.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on with an interrupted job.")
    ] = False,
    audio_codec: AudioCodecOption = "copy",
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave all sound out.")] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            help="Share the film out: NVIDIA GPUs as 0,1 or all; cpu*2 for two workers on the CPU.", show_default=False
        ),
    ] = None,
    precision: PrecisionOption = Precision.fp16,
    wait_for_engine: Annotated[
        bool, typer.Option("--wait-for-engine", help="Don't begin on the CPU while TensorRT builds its plan.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Share the film out to the machines of a Ray cluster: auto, or ray://HOST:PORT.", show_default=False
        ),
    ] = None,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="A text file with an input in each line.", show_default=False)
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Of many files, leave those whose output exists.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Of many files, so many at once.")] = 1,
    watch: Annotated[bool, typer.Option("--watch", help="Do what is put into a folder, until Ctrl-C.")] = False,
    suffix: Annotated[
        list[str] | None,
        typer.Option(help="Of many files, what all films (.mkv) or all pictures (.png) become.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done and how long it would take; see `rtsr plan`.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something goes wrong.")] = False,
) -> None:
    """Upscale a film, a picture, or folders of both. Sound, subtitles, tags, colours and times stay what they are.

    Examples:

    - `rtsr upscale movie.mp4 -o movie_4x.mp4`

    - `rtsr upscale movie.mp4 -o movie_2x.mkv --scale 2 --model fast --preset ultrafast` is quicker

    - `rtsr upscale movie.mkv -o part.mkv --start 1:30 --end 2:00 --codec libx265 --crf 20`

    - `rtsr upscale movie.mp4 -o movie_4k.mp4 --to 2160p` fits the screen

    - `rtsr upscale photo.jpg -o photo_4x.jpg`, `rtsr upscale films/ -o larger/ --skip-existing`

    The same command again goes on with a job that was interrupted.
    """
    from rtsr.backends import backend_on
    from rtsr.cluster.connection import Cluster
    from rtsr.devices import parse_devices
    from rtsr.options import Options
    from rtsr.pictures.command import is_picture_job, upscale_one_picture
    from rtsr.sinks.encoding import Encoding, parse_bitrate
    from rtsr.upscale_many import Many, one_of, upscale_many

    options = Options(
        scale=scale,
        to=to,
        model=model,
        backend=backend_on(backend.value, device),
        degradation=degradation.value,
        detail=detail,
        encoding=Encoding(
            codec, crf, preset, parse_bitrate(bitrate) if bitrate else None, pix_fmt, parse_pairs(codec_option)
        ),
        start=parse_time("--start", start),
        end=parse_time("--end", end),
        rate=parse_rate(rate),
        deinterlace=deinterlace.value,
        overwrite=overwrite,
        drop_unsupported=drop_unsupported,
        restart=restart,
        audio_codec=audio_codec,
        no_audio=no_audio,
        devices=parse_devices(devices),
        precision=precision.value,
        wait_for_engine=wait_for_engine,
        cluster=Cluster(cluster) if cluster is not None else None,
    )
    many = Many(list_file, skip_existing, jobs, watch, tuple(suffix or ()))
    if (input := one_of(inputs or [], output, many)) is None:
        with _interruptible(output):
            return upscale_many(inputs or [], output, options, many, dry_run=dry_run, as_json=as_json, quiet=quiet)
    if is_picture_job(input, output):
        with _interruptible(output):
            return upscale_one_picture(input, output, options, dry_run=dry_run, as_json=as_json, quiet=quiet)
    if dry_run:
        from rtsr.display import print_plan
        from rtsr.plan import make_plan

        made = make_plan(input, output, options)
        print(json.dumps(made.as_dict())) if as_json else print_plan(made)
        return
    from rtsr import job
    from rtsr.display import show_progress

    with _interruptible(output), show_progress(quiet) as display:
        report = job.upscale(
            input, output, options, progress=display.progress, notice=display.notice, building=display.building
        )
        display.finished(report)
    if as_json:
        print(json.dumps(report.as_dict()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def plan(
    context: typer.Context,
    input: Annotated[str, typer.Argument(help="What would be upscaled.", show_default=False)],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="As of `rtsr upscale`. [an .mkv beside]", show_default=False)
    ] = None,
) -> None:
    """Say what `rtsr upscale` would do: streams kept, converted or left out and why, speed, time, size, memory.

    Takes all options of `rtsr upscale`, processes a few frames from the midst of the film and writes nothing.

    Example: `rtsr plan movie.mp4 -o movie_4x.mp4 --model fast`; with `--json` for programs
    """
    from rtsr.folders import default_output

    chosen = output or str(default_output(input))
    command = typer.main.get_command(app)
    command.main(["upscale", input, "-o", chosen, "--dry-run", *context.args], "rtsr")


@app.command()
def benchmark(
    size: Annotated[
        str | None,
        typer.Option(help="Size of the clip that is made for it. [640x360]", metavar="WxH", show_default=False),
    ] = None,
    scale: ScaleOption = 4,
    model: ModelOption = "balanced",
    backend: BackendOption = Backend.auto,
    device: DeviceOption = None,
    degradation: DegradationOption = Degradation.stream,
    detail: DetailOption = None,
    frames: Annotated[int, typer.Option(help="Frames of a round.")] = 240,
    input: Annotated[
        Path | None, typer.Option("--input", help="Measure on this clip instead.", show_default=False)
    ] = None,
    codec: CodecOption = None,
    crf: Annotated[int | None, typer.Option(help="Quality, lower is better.")] = None,
    preset: Annotated[str | None, typer.Option(help="Encoder speed. [x264: ultrafast]", show_default=False)] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also measure what else one could use: bicubic, FSRCNN, ESPCN, ...")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what decoding, upscaling and encoding cost here, and how close the whole comes to what they allow.

    Example: `rtsr benchmark --size 640x360 --scale 4 --model fast --baseline`
    """
    from rich.console import Console

    from rtsr import bench
    from rtsr.backends import backend_on
    from rtsr.sinks.encoding import Encoding

    fastest = "ultrafast" if codec in (None, "libx264", "libx265") else None
    result = bench.benchmark(
        size=size,
        scale=scale,
        model=model,
        backend=backend_on(backend.value, device),
        degradation=degradation.value,
        detail=detail,
        frames=frames,
        input=input,
        encoding=Encoding(codec, crf, preset or fastest),
        baseline=baseline,
        notice=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    bench.print_table(result, Console(stderr=as_json))
    print(json.dumps(result.as_dict()))


@app.command()
def verify(
    input: Annotated[str, typer.Argument(help="The original.", show_default=False)],
    output: Annotated[str, typer.Argument(help="What was made of it.", show_default=False)],
    rate: Annotated[str | None, typer.Option(help="The --rate of numbered pictures.", show_default=False)] = None,
    start: Annotated[str | None, typer.Option(help="The --start that the output was cut with.", metavar="TIME")] = None,
    end: Annotated[str | None, typer.Option(help="The --end that the output was cut with.", metavar="TIME")] = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="The output was made with --no-audio.")] = False,
    drop_unsupported: Annotated[
        bool, typer.Option("--drop-unsupported", help="The output was made with --drop-unsupported.")
    ] = False,
    pix_fmt: Annotated[
        str | None, typer.Option(help="The --pix-fmt that the output was made with.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that an upscaled file has everything of its original: every frame at its time, sound, tags, pictures.

    Exits with 0 only if nothing is missing. The same check runs at the end of every `rtsr upscale`.

    Example: `rtsr verify movie.mp4 movie_4x.mp4`
    """
    from rtsr import verify as verification
    from rtsr.errors import IncompleteError
    from rtsr.pictures.command import is_picture_job, verify_pictures
    from rtsr.pixels import PixelFormat
    from rtsr.sinks.codecs import container_format
    from rtsr.sinks.plans import plan_streams
    from rtsr.sources.media import Media

    begin, finish = parse_time("--start", start), parse_time("--end", end)
    if is_picture_job(input, Path(output)):
        verdict = verify_pictures(Path(input), Path(output), drop_unsupported)
    else:
        source, result = Media(input, parse_rate(rate)), Media(output)
        verdict = verification.verify(
            source,
            result,
            plan_streams(source, container_format(Path(output))) if drop_unsupported else None,
            begin,
            finish,
            PixelFormat.of(pix_fmt) if pix_fmt else None,
            no_audio=no_audio,
            tags=not drop_unsupported,
        )
    if as_json:
        print(json.dumps(verdict.as_dict()))
    if not verdict.findings:
        if not as_json:
            from rtsr.display import facts_line

            print(f"{output} has everything of {input}: {facts_line(verdict.facts)}")
        return
    if as_json:
        raise typer.Exit(IncompleteError.exit_code)
    raise IncompleteError(f"{output} does not match {input}: {'; '.join(verdict.findings)}")


app.add_typer(engines, name="engines")
app.command(cls=LiveCommand)(live)
app.command()(compare)
app.command()(doctor)


@contextmanager
def _interruptible(output: Path) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a job alike: threads joined, what is finished kept, and how to go on said."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        kept = output.with_name(output.name + ".rtsr").is_dir()
        then = "the same command goes on where it stopped" if kept else "nothing was finished, nothing is left"
        raise Interrupted(f"interrupted; {then}") from None


def main() -> None:
    """Run the command line. Every error is one sentence on stderr and an exit code; RTSR_DEBUG=1 shows tracebacks."""
    if os.environ.get("RTSR_DEBUG") == "1":
        app()
        return
    try:
        app()
    except RtsrError as error:
        _fail(str(error), error.exit_code)
    except SystemExit as exit:  # typer has said on stderr what is wrong with the options
        if exit.code == 2 and "--json" in sys.argv:
            _fail("the command line is wrong; see above", 2)
        raise
    except MemoryError:
        _fail("out of memory; a smaller --model or --scale needs less", 1)
    except Exception as error:  # the last resort of a program that promises one sentence
        _fail(f"{type(error).__name__}: {error} (this should not happen: please report it with RTSR_DEBUG=1 set)", 70)


def _fail(sentence: str, code: int) -> None:
    """The sentence goes to stderr; with --json a document that says the same goes to stdout."""
    print(f"rtsr: {sentence}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"error": sentence, "exit_code": code}))
    sys.exit(code)
