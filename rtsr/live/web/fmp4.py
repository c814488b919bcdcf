"""Fragmented MP4 (ISO/IEC 14496-12) by hand: an init segment, then one fragment per picture.

FFmpeg's muxer writes a fragment when the next one begins, which costs one frame of latency; here each goes out as soon
as its picture is encoded.
"""

from __future__ import annotations

import struct

from rtsr.live.web.h264 import CLOCK

# Of every sample, in ticks. Media Source Extensions take a gap of more than two durations for a discontinuity and drop
# everything up to the next keyframe; live pictures come as they come, so each claims a long second.
DURATION = CLOCK
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_KEY, _DELTA = 0x02000000, 0x01010000  # sample flags: depends on none; depends on others and is no sync sample


def nal_units(stream: bytes) -> list[bytes]:
    """NAL units of an Annex B byte stream, without their start codes."""
    parts = stream.split(b"\x00\x00\x01")
    # A start code of four bytes leaves its first zero at the end of the unit before.
    return [unit for part in parts[1:] if (unit := part.rstrip(b"\x00"))]


def codec_string(header: bytes) -> str:
    """What MediaSource.isTypeSupported wants to know, e.g. `avc1.64001f`."""
    sps = _parameter_set(header, 7)
    return f"avc1.{sps[1:4].hex()}"


def init_segment(header: bytes, size: tuple[int, int]) -> bytes:
    """ftyp and moov for pictures of `size` (width, height); header: SPS and PPS in Annex B."""
    width, height = size
    sps, pps = _parameter_set(header, 7), _parameter_set(header, 8)
    config = b"\x01" + sps[1:4] + b"\xff\xe1" + _sized(sps) + b"\x01" + _sized(pps)
    if sps[1] in (100, 110, 122, 144):  # High profiles tell chroma and depths again: 4:2:0, 8 bits
        config += b"\xfd\xf8\xf8\x00"
    entry = bytes(6) + struct.pack(">H16x2H2I4xH32xHh", 1, width, height, 72 << 16, 72 << 16, 1, 24, -1)
    entries = _full("stsd", 0, 0, struct.pack(">I", 1), _box("avc1", entry, _box("avcC", config)))
    nothing = [_full(kind, 0, 0, bytes(4)) for kind in ("stts", "stsc", "stco")]
    table = _box("stbl", entries, *nothing, _full("stsz", 0, 0, bytes(8)))
    here = _full("dref", 0, 0, struct.pack(">I", 1), _full("url ", 0, 1))
    media = _box(
        "mdia",
        _full("mdhd", 0, 0, struct.pack(">4IHH", 0, 0, CLOCK, 0, 0x55C4, 0)),
        _full("hdlr", 0, 0, struct.pack(">I4s12x", 0, b"vide"), b"rtsr\x00"),
        _box("minf", _full("vmhd", 0, 1, bytes(8)), _box("dinf", here), table),
    )
    track = _full(
        *("tkhd", 0, 3, struct.pack(">5I8x4H", 0, 0, 1, 0, 0, 0, 0, 0, 0)),
        *(_MATRIX, struct.pack(">2I", width << 16, height << 16)),
    )
    movie = _full(
        *("mvhd", 0, 0, struct.pack(">4IIH10x", 0, 0, CLOCK, 0, 0x10000, 0x100)),
        *(_MATRIX, bytes(24), struct.pack(">I", 2)),
    )
    extends = _box("mvex", _full("trex", 0, 0, struct.pack(">5I", 1, 1, DURATION, 0, _DELTA)))
    kinds = _box("ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41avc1")
    return kinds + _box("moov", movie, _box("trak", track, media), extends)


def fragment(number: int, time: int, data: bytes, keyframe: bool) -> bytes:
    """moof and mdat of one picture. number: counts from 1; time: of its showing, in ticks; data: Annex B."""
    sample = b"".join(struct.pack(">I", len(unit)) + unit for unit in nal_units(data))

    def moof(offset: int) -> bytes:
        run = struct.pack(">IiII", 1, offset, len(sample), _KEY if keyframe else _DELTA)
        return _box(
            "moof",
            _full("mfhd", 0, 0, struct.pack(">I", number)),
            _box(
                "traf",
                _full("tfhd", 0, 0x020000, struct.pack(">I", 1)),  # offsets count from this moof
                _full("tfdt", 1, 0, struct.pack(">Q", time)),
                _full("trun", 0, 0x000001 | 0x000200 | 0x000400, run),  # offset, size and flags are told
            ),
        )

    size = len(moof(0))
    return moof(size + 8) + _box("mdat", sample)


def _parameter_set(header: bytes, kind: int) -> bytes:
    return next(unit for unit in nal_units(header) if unit[0] & 0x1F == kind)


def _sized(unit: bytes) -> bytes:
    return struct.pack(">H", len(unit)) + unit


def _box(kind: str, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), kind.encode()) + payload


def _full(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
