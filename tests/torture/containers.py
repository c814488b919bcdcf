"""Corpus: containers, and time in all the ways that files have of telling it."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from torture.entry import NANO, Entry, Expect
from torture.films import X264, Pictures, Sound, drawn, encoded, fields, write_film

WITH_SOUND = {"video": 1, "audio": 1}
MPEG2 = {"b": "4000k", "g": "12", "bf": "2"}
VP9 = {"cpu-used": "8", "crf": "20", "b": "0"}
MS = Fraction(1, 1000)
TICK = Fraction(1, 90000)
VFR = (0, 3003, 6006, 12012, 13000, 16003, 40000, 43003, 46006, 49009, 52012, 90000, 93003, 96006)  # 90 kHz
VFR_MS = (0, 33, 67, 133, 144, 178, 444, 478, 511, 544, 578, 1000, 1033, 1067)
LOSSLESS: dict[str, str] = {"level": "3", "slicecrc": "1"}


def film(*streams: Any, **more: Any) -> Any:
    """A function that writes this film."""
    return lambda path: write_film(path, *streams, **more)


def sequence(codec: str, pix_fmt: str, first: int = 1) -> Any:
    """A function that writes an image sequence, numbered from `first`."""

    def make(path: Path) -> None:
        path.parent.mkdir()
        _, packets = encoded(Pictures(codec=codec, pix_fmt=pix_fmt, options={}))
        for i, packet in enumerate(packets):
            (path.parent / (path.name % (first + i))).write_bytes(bytes(packet))

    return make


def raw(codec: str, options: dict[str, str]) -> Any:
    """A function that writes a bare elementary stream: no container, no times."""

    def make(path: Path) -> None:
        _, packets = encoded(Pictures(codec=codec, options=options))
        path.write_bytes(b"".join(bytes(packet) for packet in packets))

    return make


def size_change(path: Path) -> None:
    """12 pictures of 96x64, then 12 of 64x48, with their parameter sets among the packets."""
    small = {"width": 64, "height": 48}
    parts = [
        encoded(Pictures(frames=12, options={**X264, "bf": "0"}, first=12 * i, **(small if i else {})))[1]
        for i in (0, 1)
    ]  # type: ignore[arg-type]
    ts = path if path.suffix == ".ts" else path.with_name(path.name + ".ts")
    with av.open(f"file:{ts}", "w") as container:
        stream: Any = container.add_mux_stream("h264", rate=24, width=96, height=64)
        for i, packet in enumerate(packet for part in parts for packet in part):
            packet.stream, packet.time_base = stream, Fraction(1, 24)
            packet.pts = packet.dts = i
            packet.duration = 1
            container.mux(packet)
    if ts != path:
        remuxed(ts, path)
        ts.unlink()


def remuxed(source: Path, path: Path, **options: Any) -> None:
    """The video of a file in another container, packet by packet."""
    with av.open(f"file:{source}") as old, av.open(f"file:{path}", "w", **options) as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)


def stamped(stamps: tuple[int, ...]) -> Any:
    """A function that writes an mkv of keyframes with these times (ms), however wrong: Matroska lets them be."""

    def make(path: Path) -> None:
        mjpeg = Pictures(codec="mjpeg", pix_fmt="yuvj420p", options={"qscale": "2"}, frames=len(stamps))
        write_film(path, mjpeg)
        data = bytearray(path.read_bytes())
        at = 0
        for stamp in stamps:
            at = data.index(
                b"\xff\xd8\xff", at + 4
            )  # a JPEG begins; before it: track, int16 time in the cluster, flags
            clock = data.index(b"\xe7", data.rindex(b"\x1f\x43\xb6\x75", 0, at)) + 1  # the cluster's own time
            begun = int.from_bytes(data[clock + 1 : clock + 1 + (data[clock] & 0x7F)], "big")
            data[at - 3 : at - 1] = struct.pack(">h", stamp - begun)
        path.write_bytes(data)

    return make


def cut_by_edit_list(path: Path) -> None:
    """An edit list that leaves out the first 7 of 24 pictures, in the middle of a group of pictures."""
    write_film(path, Pictures(), Sound())
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")  # of the video, the first track: version, entries, then duration, media time, rate
    entries = struct.unpack_from(">I", data, at + 8)[0]
    assert entries == 1, "a film that begins at zero has one edit"
    clock = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    began = struct.unpack_from(">i", data, at + 16)[0]
    struct.pack_into(">i", data, at + 16, began + 7 * clock // 24)
    path.write_bytes(data)


def doubled_sound(path: Path) -> None:
    """Packets 5 and 9 of the sound are there twice, at one time."""
    plain = write_film(path.with_name(path.name + ".mkv"), Pictures(), Sound("ac3"))
    with av.open(f"file:{plain}") as old, av.open(f"file:{path}", "w") as new:
        streams = [new.add_stream_from_template(stream, opaque=True) for stream in old.streams]
        sounds = 0
        for packet in old.demux():
            if packet.size:
                is_sound = packet.stream.type == "audio"
                sounds += is_sound
                times = packet.pts, packet.dts
                packet.stream = streams[packet.stream.index]
                for _ in range(2 if is_sound and sounds in (5, 9) else 1):
                    packet.pts, packet.dts = times
                    new.mux(packet)
    plain.unlink()


def without_pts(path: Path) -> None:
    """MPEG-4 with B-frames in AVI, which knows only in which order pictures are decoded."""
    write_film(
        path, Pictures(codec="mpeg4", options={"bf": "2", "qscale": "2", "g": "12"}), Sound(codec="mp3", rate=44100)
    )


def hard_telecine(path: Path) -> None:
    """24 pictures a second spread over 30 by repeating fields, as broadcast did; not marked as interlaced."""
    with av.open(f"file:{path}", "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options=dict(X264))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(30):
            top, bottom = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))[i % 5]
            made = fields(drawn(4 * (i // 5) + top, 96, 64, "yuv420p"), drawn(4 * (i // 5) + bottom, 96, 64, "yuv420p"))
            made.pts, made.time_base, made.duration = i, Fraction(1, 30), 1
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))


def soft_telecine(path: Path) -> None:
    """24 whole pictures a second with flags that tell a player to repeat fields (2:3 pulldown), as film DVDs have."""
    _, packets = encoded(Pictures(codec="mpeg2video", options={**MPEG2, "bf": "0"}))
    stamp = Fraction(0)
    with av.open(f"file:{path}", "w") as container:
        stream: Any = container.add_mux_stream("mpeg2video", rate=Fraction(30000, 1001), width=96, height=64)
        stream.time_base = TICK
        for i, packet in enumerate(packets):
            data = bytearray(bytes(packet))
            top, repeat = ((1, 1), (0, 0), (0, 1), (1, 0))[i % 4]
            for at in (n for n in range(len(data) - 8) if data[n : n + 4] == b"\0\0\1\xb5"):
                if data[at + 4] >> 4 == 1:  # sequence extension: not a progressive sequence
                    data[at + 5] &= ~0x08
                elif data[at + 4] >> 4 == 8:  # picture coding extension: top field first, repeat first field
                    data[at + 7] = data[at + 7] & ~0x82 | top << 7 | repeat << 1
            told = av.Packet(bytes(data))
            told.stream, told.time_base, told.is_keyframe = stream, TICK, packet.is_keyframe
            told.pts = told.dts = round(stamp / TICK)
            told.duration = round(Fraction(1001, 30000) * (2 + repeat) / 2 / TICK)
            stamp += Fraction(1001, 30000) * (2 + repeat) / 2
            container.mux(told)


H264 = Pictures()
CONTAINERS = [
    Entry(
        "h264-aac.mp4",
        "H.264 with B-frames and AAC",
        film(H264, Sound()),
        Expect(streams=WITH_SOUND, delay_s=0, span_s=23 / 24),
    ),
    Entry(
        "nano.mp4", "the same through a trained engine", film(H264, Sound()), Expect(streams=WITH_SOUND), engine=NANO
    ),
    Entry(
        "h264-pcm.mov",
        "H.264 and PCM in QuickTime",
        film(H264, Sound("pcm_s16le")),
        Expect(streams=WITH_SOUND, delay_s=0),
    ),
    Entry(
        "h264-flac.mkv", "H.264 and FLAC in Matroska", film(H264, Sound("flac")), Expect(streams=WITH_SOUND, delay_s=0)
    ),
    Entry(
        "vp9-opus.webm",
        "VP9 and Opus in WebM",
        film(Pictures("libvpx-vp9", options=VP9, time_base=MS), Sound("libopus")),
        Expect(streams=WITH_SOUND, codec="vp9", delay_s=0),
    ),
    Entry(
        "av1-opus.mp4",
        "AV1 and Opus in mp4",
        film(Pictures("libsvtav1", options={"preset": "12"}), Sound("libopus")),
        Expect(streams=WITH_SOUND),
    ),
    Entry(
        "mpeg4-mp3.avi",
        "MPEG-4 and MP3 in AVI, with an empty chunk, which means that a picture stays",
        film(Pictures("mpeg4", options={"qscale": "2"}), Sound("mp3", rate=44100)),
        Expect(streams=WITH_SOUND),
    ),
    Entry(
        "h264-ac3.ts",
        "H.264 and AC-3 in a transport stream",
        film(H264, Sound("ac3")),
        Expect(streams=WITH_SOUND, delay_s=0),
    ),
    Entry(
        "h264-ac3.m2ts",
        "the transport stream of Blu-ray, with a time code in front of each packet",
        film(H264, Sound("ac3"), fmt="mpegts", mux_options={"mpegts_m2ts_mode": "1"}),
        Expect(streams=WITH_SOUND, delay_s=0),
        output="out.ts",
    ),
    Entry(
        "mpeg2-mp2.mpg",
        "MPEG-2 and MP2 in a program stream",
        film(Pictures("mpeg2video", options=MPEG2), Sound("mp2"), fmt="vob"),
        Expect(streams=WITH_SOUND, delay_s=0),
        output="out.mkv",
    ),
    Entry(
        "h264-aac.flv",
        "H.264 and AAC in Flash video",
        film(H264, Sound()),
        Expect(streams=WITH_SOUND, delay_s=0),
        output="out.mp4",
    ),
    Entry(
        "wmv2.wmv",
        "WMV 2 and WMA in ASF: no container that is written here takes WMA, so that the sound is encoded anew",
        film(Pictures("wmv2", options={"qscale": "2"}), Sound("wmav2", rate=44100), fmt="asf"),
        Expect(streams=WITH_SOUND),  # the first packet of WMA decodes to nothing: verify compares what is heard
        output="out.mkv",
        arguments=("--audio-codec", "aac"),
    ),
    Entry(
        "mpeg2.mxf",
        "MPEG-2 intra and PCM in MXF",
        film(
            Pictures("mpeg2video", options={"b": "4000k", "g": "1"}, rate=Fraction(25), pts=range(25)),
            Sound("pcm_s16le"),
        ),
        Expect(streams=WITH_SOUND | {"data": 1}, frames=25),  # the timecode that every MXF has
        output="out.mov",
    ),
    Entry(
        "nut.nut",
        "H.264 in FFmpeg's own NUT",
        film(H264, Sound("flac")),
        Expect(streams=WITH_SOUND, delay_s=0),
        output="out.mkv",
    ),
    Entry(
        "h263.3gp",
        "a phone's film of 2005: H.263 and AAC in 3GP",
        film(Pictures("h263", width=128, height=96, options={"qscale": "2"}, rate=Fraction(30000, 1001)), Sound()),
        Expect(size=(256, 192), streams=WITH_SOUND),
        output="out.mp4",
    ),
    Entry(
        "animated.gif",
        "an animated GIF stays one",
        film(Pictures("gif", "rgb8", rate=Fraction(20), time_base=Fraction(1, 100), pts=range(0, 120, 5), options={})),
        Expect(pix_fmt=("bgra", "pal8"), codec="gif", span_s=1.15),
    ),
    Entry(
        "animated-to.gif.mkv",
        "a film becomes an animated GIF, whose clock has 1/100 s",
        film(Pictures(rate=Fraction(20))),
        Expect(pix_fmt=("bgra", "pal8"), codec="gif", span_s=1.15),
        output="out.gif",
    ),
    Entry(
        "gif-to-mp4.gif",
        "a GIF in an mp4: FFmpeg decodes it as RGB with alpha, which is said to be left out",
        film(Pictures("gif", "rgb8", rate=Fraction(20), time_base=Fraction(1, 100), pts=range(0, 120, 5), options={})),
        Expect(span_s=1.15, color=(1, 2, 2, 1), notices=("RGB|709",), verify=False),
        output="out.mp4",
        arguments=("--drop-unsupported",),
    ),
    Entry(
        "animated.apng",
        "an animated PNG",
        film(Pictures("apng", "rgb24", options={})),
        Expect(notices=("RGB|709",), color=(1, 2, 2, 1), span_s=23 / 24),
        output="out.mkv",
    ),
    Entry(
        "png-sequence/%05d.png",
        "numbered PNG pictures become numbered PNG pictures",
        sequence("png", "rgb24"),
        Expect(pix_fmt=("rgb24",)),
        output="out-frames/%05d.png",
        arguments=("--rate", "24"),
    ),
    Entry(
        "jpg-sequence/frame_%03d.jpg",
        "numbered JPEG pictures, counted from 7, become a film",
        sequence("mjpeg", "yuvj420p", first=7),
        Expect(pix_fmt=("yuv420p",), color=(5, 2, 2, 2), span_s=23 / 24),
        output="out.mkv",
        arguments=("--rate", "24"),
    ),
    Entry(
        "tiff-sequence/%05d.tiff",
        "numbered TIFF pictures of 16 bits become a film of 10",
        sequence("tiff", "rgb48le", first=0),
        Expect(pix_fmt=("yuv420p10le",), color=(1, 2, 2, 1), notices=("RGB|709",)),
        output="out.mkv",
        arguments=("--rate", "24"),
    ),
    Entry(
        "tiff-to-png/%05d.tiff",
        "numbered TIFF pictures of 16 bits become PNG pictures of 16 bits",
        sequence("tiff", "rgb48le", first=0),
        Expect(pix_fmt=("rgb48be", "rgb48le")),
        output="out-deep/%05d.png",
        arguments=("--rate", "24"),
    ),
    Entry(
        "to-pictures.mp4",
        "a film becomes numbered PNG pictures; its sound has no place there",
        film(H264, Sound()),
        Expect(pix_fmt=("rgb24",), verify=False),
        output="out-pictures/%04d.png",
        arguments=("--drop-unsupported",),
    ),
]

TIMES = [
    Entry(
        "vfr.mp4",
        "a variable frame rate in mp4",
        film(Pictures(time_base=TICK, pts=VFR)),
        Expect(frames=14, span_s=96006 / 90000),
    ),
    Entry(
        "vfr.mkv",
        "a variable frame rate in Matroska",
        film(Pictures(time_base=MS, pts=VFR_MS)),
        Expect(frames=14, span_s=1.067),
    ),
    Entry(
        "vfr-to-ts.mkv",
        "a variable frame rate from Matroska to a transport stream",
        film(Pictures(time_base=MS, pts=VFR_MS)),
        Expect(frames=14, span_s=1.067),
        output="out.ts",
    ),
    Entry(
        "late.mkv",
        "a recording that begins at 1:02:03.5 on its clock",
        film(Pictures(time_base=MS, pts=range(3723500, 3724460, 40)), Sound(start=Fraction(7447, 2))),
        Expect(span_s=0.92, delay_s=0, streams=WITH_SOUND),
    ),
    Entry(
        "late-sound.mkv",
        "sound that begins 0.5 s after the picture",
        film(H264, Sound("flac", start=Fraction(1, 2))),
        Expect(streams=WITH_SOUND, delay_s=-0.5),
    ),
    Entry(
        "late-sound.mp4",
        "sound that begins 0.5 s after the picture, said by an edit list",
        film(H264, Sound(start=Fraction(1, 2))),
        Expect(streams=WITH_SOUND, delay_s=-0.5),
    ),
    Entry(
        "late-picture.mp4",
        "a picture that begins 0.25 s after the sound, said by an edit list",
        film(Pictures(pts=range(6, 30)), Sound()),
        Expect(streams=WITH_SOUND, delay_s=0.25, span_s=23 / 24),
    ),
    Entry(
        "negative-cts.mov",
        "B-frames with negative composition offsets",
        film(H264, Sound("pcm_s16le"), mux_options={"movflags": "+negative_cts_offsets"}),
        Expect(streams=WITH_SOUND, delay_s=0, span_s=23 / 24),
    ),
    Entry(
        "edit-list-cut.mp4",
        "an edit list that leaves out the first 7 pictures, amid a group of pictures",
        cut_by_edit_list,
        Expect(frames=17, numbers=range(7, 24), streams=WITH_SOUND, span_s=16 / 24),
    ),
    Entry(
        "b-pyramid.mkv",
        "five B-frames in a row that refer to each other",
        film(Pictures(options={**X264, "bf": "5", "b-pyramid": "normal", "g": "24"})),
        Expect(span_s=23 / 24),
    ),
    Entry(
        "open-gop-hevc.mkv",
        "HEVC with open groups of pictures",
        film(
            Pictures(
                "libx265",
                options={
                    "crf": "12",
                    "preset": "veryfast",
                    "x265-params": "log-level=error:open-gop=1:keyint=8:min-keyint=8:bframes=3",
                },
            )
        ),
        Expect(span_s=23 / 24),
    ),
    Entry(
        "open-gop-mpeg2.ts",
        "MPEG-2 with open groups of pictures",
        film(Pictures("mpeg2video", options={**MPEG2, "g": "6"}), Sound("mp2")),
        Expect(streams=WITH_SOUND, span_s=23 / 24),
    ),
    Entry(
        "duplicate-times.mkv",
        "two pictures of one time",
        stamped((0, 40, 80, 80, 160, 200)),
        Expect(frames=6, span_s=0.2, pix_fmt=("yuv420p",), notices=("timestamp",)),
    ),
    Entry(
        "backward-times.mkv",
        "a clock that steps back for a picture",
        stamped((0, 40, 80, 30, 160, 200)),
        Expect(frames=6, span_s=0.2, pix_fmt=("yuv420p",), notices=("timestamp",)),
    ),
    Entry(
        "doubled-sound.mkv",
        "sound that repeats two of its times, on its way to an mp4, which allows none",
        doubled_sound,
        Expect(streams=WITH_SOUND, delay_s=0, notices=("(?i)time",)),
        output="out.mp4",
    ),
    Entry(
        "no-pts.avi",
        "AVI with B-frames: no presentation times",
        without_pts,
        Expect(streams=WITH_SOUND),
        output="out.mkv",
    ),
    Entry(
        "raw.h264",
        "a bare H.264 stream: no container, no times",
        raw("libx264", {**X264, "bf": "0"}),
        Expect(),
        output="out.mkv",
    ),
    Entry("raw-bframes.h264", "a bare H.264 stream with B-frames", raw("libx264", X264), Expect(), output="out.mp4"),
    Entry("raw.m2v", "a bare MPEG-2 stream", raw("mpeg2video", MPEG2), Expect(), output="out.mkv"),
    Entry(
        "raw.y4m",
        "bare pictures behind a line of text",
        film(Pictures("wrapped_avframe", options={}), fmt="yuv4mpegpipe"),
        Expect(span_s=23 / 24),
        output="out.mp4",
    ),
    Entry(
        "ivf.ivf", "VP9 in IVF", film(Pictures("libvpx-vp9", options=VP9)), Expect(span_s=23 / 24), output="out.webm"
    ),
    Entry(
        "streamed.mkv",
        "Matroska as it is streamed: no duration, no index",
        film(H264, Sound("flac"), mux_options={"live": "1"}),
        Expect(streams=WITH_SOUND, span_s=23 / 24),
    ),
    Entry(
        "fragmented.mp4",
        "mp4 in fragments, with no frame count",
        film(H264, Sound(), mux_options={"movflags": "+frag_keyframe+empty_moov"}),
        Expect(streams=WITH_SOUND, span_s=23 / 24),
    ),
    Entry(
        "size-change.ts",
        "96x64 becomes 64x48 midway",
        size_change,
        Expect(numbers=None, notices=("64x48|size",)),
        output="out.mkv",
    ),
    Entry(
        "size-change.mkv",
        "96x64 becomes 64x48 midway, in Matroska",
        size_change,
        Expect(numbers=None, notices=("64x48|size",)),
    ),
    Entry("one-frame.mp4", "a film of one picture", film(Pictures(frames=1)), Expect(frames=1)),
    Entry(
        "slow.mkv",
        "a picture every two seconds",
        film(Pictures(frames=4, rate=Fraction(1, 2))),
        Expect(frames=4, span_s=6),
    ),
    Entry(
        "fast.mp4",
        "240 pictures a second",
        film(Pictures(frames=60, rate=Fraction(240))),
        Expect(frames=60, span_s=59 / 240),
    ),
    Entry(
        "ntsc.mov",
        "30000/1001 pictures a second",
        film(Pictures(rate=Fraction(30000, 1001))),
        Expect(span_s=23 * 1001 / 30000),
    ),
    Entry(
        "trim.mp4",
        "a trim from 0.25 s to 0.75 s",
        film(H264, Sound()),
        Expect(frames=12, numbers=range(6, 18), span_s=11 / 24, streams=WITH_SOUND),
        arguments=("--start", "0.25", "--end", "0:00:00.75"),
    ),
    Entry(
        "served.mp4",
        "an http address",
        film(H264, Sound(), mux_options={"movflags": "+faststart"}),
        Expect(streams=WITH_SOUND, delay_s=0),
        served=True,
    ),
]

INTERLACED = [
    Entry(
        "top-first.mpg",
        "interlaced MPEG-2, top field first",
        film(Pictures("mpeg2video", options={**MPEG2, "bf": "0"}, interlaced="tt"), fmt="vob"),
        Expect(span_s=23 / 24, notices=("(?i)interlace",)),
        output="out.mkv",
    ),
    Entry(
        "bottom-first.ts",
        "interlaced MPEG-2, bottom field first",
        film(Pictures("mpeg2video", options={**MPEG2, "bf": "0"}, interlaced="bb"), Sound("mp2")),
        Expect(span_s=23 / 24, notices=("(?i)interlace",), streams=WITH_SOUND, delay_s=0),
    ),
    Entry(
        "top-first-h264.mp4",
        "interlaced H.264, top field first",
        film(Pictures(interlaced="tt", options={**X264, "x264-params": "tff=1"})),
        Expect(span_s=23 / 24, notices=("(?i)interlace",)),
    ),
    Entry(
        "interlaced-kept.mkv",
        "interlaced H.264 that is to be left as it is",
        film(Pictures(interlaced="bb", options={**X264, "x264-params": "bff=1"})),
        Expect(span_s=23 / 24),
        arguments=("--deinterlace", "off"),
    ),
    Entry(
        "forced.mkv",
        "a progressive film that is deinterlaced by order",
        film(H264),
        Expect(span_s=23 / 24),
        arguments=("--deinterlace", "on"),
    ),
    Entry(
        "hard-telecine.mp4",
        "24 pictures a second telecined to 30, left alone",
        hard_telecine,
        Expect(frames=30, numbers=None, span_s=29 / 30),
    ),
    Entry(
        "soft-telecine.ts",
        "24 whole pictures a second with repeat flags, left alone",
        soft_telecine,
        Expect(span_s=round(Fraction(1001, 30000) * (23 * 2 + 12) / 2 / TICK) / 90000),
    ),
]
