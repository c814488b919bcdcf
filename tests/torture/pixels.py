"""Corpus: pixel formats, colours, HDR, the shape of a pixel and of the picture."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from torture.containers import LOSSLESS, MS, VP9, WITH_SOUND, film, sequence
from torture.entry import NANO, Entry, Expect
from torture.films import X264, Pictures, Sound

SPAN = 23 / 24
X265 = {"crf": "12", "preset": "veryfast", "x265-params": "log-level=error"}
AS_RGB = ("RGB",)  # a notice that it became YUV
BT709 = (1, 2, 2, 1)  # the matrix it was made with; what RGB did not say stays unsaid
MASTER = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
MASTER_AV1 = "G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.0001)"
HDR10 = {"max_luminance": 1000.0, "min_luminance": 0.0001, "max_cll": 1000, "max_fall": 400}


def h264(pix_fmt: str, **more: object) -> Pictures:
    return Pictures(pix_fmt=pix_fmt, **more)  # type: ignore[arg-type]


def hevc(pix_fmt: str, **more: object) -> Pictures:
    return Pictures("libx265", pix_fmt, options=dict(X265), **more)  # type: ignore[arg-type]


def ffv1(pix_fmt: str, **more: object) -> Pictures:
    return Pictures("ffv1", pix_fmt, options=dict(LOSSLESS), **more)  # type: ignore[arg-type]


def kept(file: str, video: Pictures, *pix_fmts: str, codec: str | None = None) -> Entry:
    """A file whose samples must come out as they went in."""
    # Of H.264 in AVI FFmpeg believes that pictures are reordered, and puts all but the last one frame later.
    span = None if file.endswith(".avi") else SPAN
    expect = Expect(pix_fmt=pix_fmts or (video.pix_fmt,), codec=codec, span_s=span)
    return Entry(file, f"{video.codec}, {video.pix_fmt}", film(video), expect)


SAMPLES = [
    kept("yuv422p.mp4", h264("yuv422p")),
    kept("yuv444p.mkv", h264("yuv444p")),
    kept("yuv420p10.mp4", hevc("yuv420p10le")),
    kept("yuv420p10-h264.mkv", h264("yuv420p10le")),
    kept("yuv422p10.mkv", h264("yuv422p10le")),
    kept("yuv444p10.mkv", hevc("yuv444p10le")),
    kept("yuv420p12.mkv", hevc("yuv420p12le"), codec="hevc"),
    kept("yuv422p12.mp4", hevc("yuv422p12le"), codec="hevc"),
    kept("yuv444p12.mkv", hevc("yuv444p12le"), codec="hevc"),
    # A gray picture may be kept in a format that holds gray, which more players know.
    kept("gray.mkv", ffv1("gray"), "gray", "yuv420p"),
    kept("gray10.mkv", ffv1("gray10le"), "gray10le", "yuv420p10le"),
    kept("gray12.mkv", ffv1("gray12le"), "gray12le", "yuv420p12le"),
    # 4:1:1 has no place in H.264; the next finer chroma holds it.
    kept("yuv411p.mkv", ffv1("yuv411p"), "yuv422p", "yuv444p"),
    kept("yuv410p.avi", Pictures("ffv1", "yuv410p", options=dict(LOSSLESS)), "yuv420p", "yuv444p"),
    kept("yuv440p.mkv", ffv1("yuv440p"), "yuv440p", "yuv444p"),
    Entry(
        "dv.avi",
        "DV of a PAL camcorder, 4:2:0, interlaced, pixels of 59:54",
        film(
            Pictures("dvvideo", width=720, height=576, rate=Fraction(25), frames=5, options={}, interlaced="bb"),
            Sound("pcm_s16le", seconds=Fraction(1, 5)),
        ),
        Expect(size=(1440, 1152), frames=5, span_s=4 / 25, streams=WITH_SOUND, notices=("(?i)interlace",)),
        output="out.mkv",
    ),
    Entry(
        "dv-ntsc.avi",
        "DV of an NTSC camcorder, 4:1:1",
        film(
            Pictures(
                "dvvideo",
                "yuv411p",
                width=720,
                height=480,
                rate=Fraction(30000, 1001),
                frames=5,
                options={},
                interlaced="bb",
            )
        ),
        Expect(size=(1440, 960), frames=5, pix_fmt=("yuv422p", "yuv444p"), notices=("(?i)interlace",)),
        output="out.mkv",
    ),
    kept("prores422.mov", Pictures("prores", "yuv422p10le", options={})),
    kept("v210.mov", Pictures("v210", "yuv422p10le", options={})),
    kept("yuyv422.avi", Pictures("rawvideo", "yuyv422", options={}), "yuv422p"),
    kept("mjpeg444.mov", Pictures("mjpeg", "yuvj444p", options={"qscale": "2"}), "yuv444p"),
    Entry(
        "deep-nano.mkv",
        "10 bits through a trained engine",
        film(hevc("yuv422p10le")),
        Expect(pix_fmt=("yuv422p10le",), span_s=SPAN),
        engine=NANO,
    ),
    Entry(
        "asked-pix-fmt.mkv",
        "4:2:2 that is asked to become 4:2:0",
        film(h264("yuv422p")),
        Expect(pix_fmt=("yuv420p",), verify=False),
        arguments=("--pix-fmt", "yuv420p"),
    ),
    Entry(
        "ffv1-out.mkv",
        "12-bit 4:4:4, kept lossless by --codec ffv1",
        film(ffv1("yuv444p12le")),
        Expect(pix_fmt=("yuv444p12le",), codec="ffv1"),
        arguments=("--codec", "ffv1"),
    ),
    Entry(
        "odd-size.mkv",
        "95x63 pixels",
        film(ffv1("yuv420p", width=95, height=63)),
        Expect(size=(190, 126), span_s=SPAN),
    ),
    Entry(
        "odd-size-nano.webm",
        "95x63 pixels through a trained engine",
        film(Pictures("libvpx-vp9", width=95, height=63, options=VP9, time_base=MS)),
        Expect(size=(190, 126)),
        engine=NANO,
    ),
    Entry(
        "cropped.mp4",
        "98x66 pixels, which H.264 codes as 112x80 and crops",
        film(h264("yuv420p", width=98, height=66)),
        Expect(size=(196, 132)),
    ),
    Entry("tiny.mkv", "a picture of 66x10 pixels", film(h264("yuv420p", width=66, height=10)), Expect(size=(132, 20))),
]

ALPHA = [
    Entry(
        "prores4444.mov",
        "ProRes 4444 with alpha",
        film(Pictures("prores_ks", "yuva444p10le", options={"profile": "4444"}, time_base=None)),
        Expect(pix_fmt=("yuva444p10le", "yuva444p12le"), codec="prores", span_s=SPAN),
    ),
    Entry(
        "alpha.webm",
        "VP9 with alpha beside it, as WebM has it",
        film(Pictures("libvpx-vp9", "yuva420p", options=VP9, time_base=MS)),
        Expect(pix_fmt=("yuva420p",), codec="vp9"),
    ),
    Entry(
        "alpha-vp8.webm",
        "VP8 with alpha",
        film(
            Pictures("libvpx", "yuva420p", options={"b": "2000k", "cpu-used": "8", "auto-alt-ref": "0"}, time_base=MS)
        ),
        Expect(pix_fmt=("yuva420p",), codec="vp9"),
    ),
    Entry(
        "alpha.mkv",
        "FFV1 with alpha stays FFV1",
        film(ffv1("yuva420p")),
        Expect(pix_fmt=("yuva420p",), codec="ffv1", span_s=SPAN),
    ),
    Entry(
        "alpha-png.mov",
        "PNG with alpha in QuickTime becomes ProRes 4444",
        film(Pictures("png", "rgba", options={})),
        Expect(pix_fmt=("yuva444p10le", "yuva444p12le"), codec="prores", span_s=SPAN, notices=AS_RGB),
    ),
    Entry(
        "alpha-apng.apng",
        "animated PNG with alpha becomes a WebM with alpha",
        film(Pictures("apng", "rgba", options={})),
        Expect(pix_fmt=("yuva420p",), codec="vp9", notices=AS_RGB),
        output="out.webm",
    ),
    Entry(
        "alpha-qtrle.mov",
        "QuickTime Animation with alpha, kept by --codec qtrle",
        film(Pictures("qtrle", "argb", options={})),
        Expect(pix_fmt=("argb",), codec="qtrle", span_s=SPAN),
        arguments=("--codec", "qtrle"),
    ),
    Entry(
        "alpha-refused.mov",
        "alpha has no place in an mp4: refused before the start",
        film(Pictures("prores_ks", "yuva444p10le", options={"profile": "4444"})),
        Expect(exit_code=2, sentence=r"(alpha|transparency).*(\.webm|\.mov|\.mkv|--drop-unsupported)"),
        output="out.mp4",
    ),
    Entry(
        "alpha-dropped.mov",
        "alpha that is left out of an mp4 by order",
        film(Pictures("prores_ks", "yuva444p10le", options={"profile": "4444"})),
        Expect(pix_fmt=("yuv444p12le",), notices=("alpha|transparency",), span_s=SPAN, verify=False),
        output="out.mp4",
        arguments=("--drop-unsupported",),
    ),
    Entry(
        "alpha-sequence/%04d.png",
        "numbered PNG pictures with alpha",
        sequence("png", "rgba"),
        Expect(pix_fmt=("rgba",)),
        output="out-alpha/%04d.png",
        arguments=("--rate", "24"),
    ),
]

RGB = [
    Entry(
        "gbrp.mkv", "RGB in FFV1 becomes H.264", film(ffv1("bgr0")), Expect(color=BT709, notices=AS_RGB, span_s=SPAN)
    ),
    Entry(
        "gbrp-kept.mkv",
        "RGB in FFV1, kept by --codec ffv1",
        film(ffv1("bgr0")),
        Expect(pix_fmt=("gbrp", "bgr0"), codec="ffv1", span_s=SPAN),
        arguments=("--codec", "ffv1"),
    ),
    Entry(
        "gbrp10.mkv",
        "RGB of 10 bits",
        film(ffv1("gbrp10le")),
        Expect(pix_fmt=("yuv420p10le",), color=BT709, notices=AS_RGB),
    ),
    Entry(
        "gbrp16.mkv",
        "RGB of 16 bits",
        film(ffv1("gbrp16le")),
        Expect(pix_fmt=("yuv420p10le",), color=BT709, notices=AS_RGB),
    ),
    Entry(
        "x264rgb.mp4",
        "RGB in H.264, kept by --codec libx264rgb",
        film(Pictures("libx264rgb", "rgb24", options={"crf": "10", "preset": "veryfast"})),
        Expect(pix_fmt=("gbrp",), codec="h264", span_s=SPAN),
        arguments=("--codec", "libx264rgb"),
    ),
    Entry(
        "utvideo.avi",
        "RGB in Ut Video, kept by --codec ffv1",
        film(Pictures("utvideo", "gbrp", options={})),
        Expect(pix_fmt=("bgr0",), codec="ffv1"),
        arguments=("--codec", "ffv1"),
    ),
    Entry(
        "qtrle.mov",
        "QuickTime Animation becomes H.264",
        film(Pictures("qtrle", "rgb24", options={})),
        Expect(color=BT709, notices=AS_RGB, span_s=SPAN),
    ),
    Entry(
        "png.mov",
        "PNG in QuickTime, kept by --codec png",
        film(Pictures("png", "rgb24", options={})),
        Expect(pix_fmt=("rgb24",), codec="png", span_s=SPAN),
        arguments=("--codec", "png"),
    ),
    Entry(
        "raw-bgr24.avi",
        "bare RGB in AVI",
        film(Pictures("rawvideo", "bgr24", options={})),
        Expect(color=BT709, notices=AS_RGB),
        output="out.mkv",
    ),
    Entry(
        "huffyuv.avi",
        "RGB in HuffYUV",
        film(Pictures("huffyuv", "rgb24", options={})),
        Expect(color=BT709, notices=AS_RGB),
        output="out.ts",
    ),
]


def colored(file: str, what: str, color: tuple[int, int, int, int], video: Pictures, **more: object) -> Entry:
    expect = Expect(pix_fmt=(video.pix_fmt,), color=color, span_s=SPAN, **more)  # type: ignore[arg-type]
    return Entry(file, what, film(replace(video, color=color)), expect)


COLORS = [
    colored("bt601.mp4", "BT.601 as NTSC has it", (6, 6, 6, 1), h264("yuv420p")),
    colored("bt470bg.mkv", "BT.601 as PAL has it", (5, 5, 5, 1), h264("yuv420p")),
    colored("bt709.mp4", "BT.709", (1, 1, 1, 1), h264("yuv420p")),
    colored("bt709-full.mkv", "BT.709, full range", (1, 1, 1, 2), h264("yuv420p")),
    colored("bt2020.mkv", "BT.2020, 10 bits", (9, 9, 14, 1), h264("yuv420p10le")),
    colored("smpte240.mov", "SMPTE 240M", (7, 7, 7, 1), h264("yuv420p")),
    colored("partly-tagged.mp4", "primaries and transfer known, the matrix not", (2, 1, 13, 0), h264("yuv420p")),
    colored("hlg.mp4", "HLG", (9, 9, 18, 1), hevc("yuv420p10le")),
    colored("pq.mkv", "PQ without mastering data", (9, 9, 16, 1), hevc("yuv420p10le")),
    Entry(
        "full-range.avi",
        "MJPEG with full range",
        film(Pictures("mjpeg", "yuvj420p", options={"qscale": "2"})),
        Expect(pix_fmt=("yuv420p",)),
        output="out.mkv",
    ),
    Entry(
        "hdr10.mkv",
        "HDR10 in HEVC: mastering display and content light level",
        film(
            Pictures(
                "libx265",
                "yuv420p10le",
                color=(9, 9, 16, 1),
                options={
                    **X265,
                    "x265-params": f"log-level=error:hdr10=1:repeat-headers=1:master-display={MASTER}:max-cll=1000,400",
                },
            )
        ),
        Expect(pix_fmt=("yuv420p10le",), color=(9, 9, 16, 1), hdr=HDR10, codec="hevc", span_s=SPAN),
    ),
    Entry(
        "hdr10-av1.mp4",
        "HDR10 in AV1, kept in AV1 by --codec libsvtav1",
        film(
            Pictures(
                "libsvtav1",
                "yuv420p10le",
                color=(9, 9, 16, 1),
                options={
                    "preset": "12",
                    "svtav1-params": f"mastering-display={MASTER_AV1}:content-light=1000,400",
                },
            )
        ),
        Expect(pix_fmt=("yuv420p10le",), color=(9, 9, 16, 1), hdr=HDR10 | {"min_luminance": 0.00012}, codec="av1"),
        arguments=("--codec", "libsvtav1"),
    ),
    *(
        Entry(
            f"siting-{place}.mkv",
            f"chroma samples at {place}",
            film(Pictures(options={**X264, "chroma_sample_location": place})),
            Expect(span_s=SPAN),
        )
        for place in ("left", "center", "topleft")
    ),
    Entry(
        "sar.mp4",
        "pixels of 4:3",
        film(h264("yuv420p", sample_aspect_ratio=Fraction(4, 3))),
        Expect(sample_aspect_ratio="4/3"),
    ),
    Entry(
        "sar-pal.mkv",
        "pixels of 64:45",
        film(h264("yuv420p", sample_aspect_ratio=Fraction(64, 45))),
        Expect(sample_aspect_ratio="64/45"),
    ),
    *(
        Entry(
            f"rotation-{angle}.{suffix}",
            f"turned by {angle} degrees in the display matrix",
            film(h264("yuv420p", rotation=angle)),
            Expect(rotation=angle),
        )
        for angle, suffix in ((90, "mov"), (180, "mp4"), (-90, "mkv"))
    ),
]
