"""Tags, languages and chapters: what to take over, and how each container wants it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from rtsr.sources.media import Input, open_input

# Tags that describe the old file's making; the muxer writes its own.
_STALE_TAGS = {"encoder", "software", "major_brand", "minor_version", "compatible_brands", "duration"}
_NEVER = "1970-01-01T00:00:00"  # the zero of a clock, which mp4 does not write
# Languages with two ISO 639-2 codes, bibliographic -> terminological, and QuickTime's own spelling of Swedish.
SAME_LANGUAGE = {
    **{"ger": "deu", "dut": "nld", "gre": "ell", "ice": "isl", "chi": "zho", "alb": "sqi", "mac": "mkd", "arm": "hye"},
    **{"geo": "kat", "tib": "bod", "bur": "mya", "may": "msa", "wel": "cym", "baq": "eus", "sve": "swe"},
    **{"fre": "fra", "rum": "ron", "cze": "ces", "slo": "slk", "per": "fas"},
}
# Of those, QuickTime has these in the first spelling, all others in the second; FFmpeg writes `und` for the rest.
_MOV_FIRST = set("ger dut gre ice chi alb mac arm geo tib bur may wel baq sve".split())  # noqa: SIM905
_FINEST_CLOCK = 7_200_000  # ticks a second; a multiple of 90 kHz, 48 kHz and 24, 25, 30 frames a second
# The container tags for which mp4 has a place that every player reads. Others need its key-value atom (mdta).
_MP4_TAGS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"),
    *("lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "episode_sort"),
    *("season_number", "media_type", "hd_video", "compilation", "track", "disc", "tmpo", "creation_time", "timecode"),
}


def same_language(one: str | None, other: str | None) -> bool:
    """Whether two codes mean one language; none at all is `und`."""
    one, other = one or "und", other or "und"
    return SAME_LANGUAGE.get(one, one) == SAME_LANGUAGE.get(other, other)


def copy_tags(source: dict[str, str], target: dict[str, str]) -> None:
    """Copy metadata, but for the tags that only describe how the old file was made."""
    tags = {key: value for key, value in source.items() if key.lower() not in _STALE_TAGS}
    if "creation_time" in tags:  # FFmpeg 9 joins the header's and the key-value atom's with a semicolon
        tags["creation_time"] = tags["creation_time"].partition(";")[0]
        if tags["creation_time"].startswith(_NEVER):
            del tags["creation_time"]
    if "name" in tags and "title" not in tags:
        tags["title"] = tags.pop("name")  # FFmpeg reads an mp4 track's title as `name` and writes it from `title`
    target.update(tags)


def muxer_options(container_format: str, copy_from: Input | None) -> dict[str, str]:
    """Options that make the muxer keep every container tag of a file, and the moment at which each stream begins; and
    write the same bytes each time."""
    if container_format in ("matroska", "webm"):
        return {"fflags": "+bitexact"}  # no random identifiers
    if container_format not in ("mp4", "mov") or copy_from is None:
        return {}
    with open_input(copy_from) as container:
        tags = {key.lower() for key in container.metadata}
        clocks = [Fraction(stream.time_base).denominator for stream in container.streams if stream.time_base]
    # Edit lists, which say when each stream begins, count in the movie's own clock: milliseconds unless told otherwise.
    options = {"movie_timescale": str(min(math.lcm(*clocks), _FINEST_CLOCK))}
    if tags - _MP4_TAGS - _STALE_TAGS:
        options["movflags"] = "+use_metadata_tags"
    return options


def moved_chapters(chapters: list[Any], start: Fraction | None, end: Fraction | None) -> list[Any]:
    """PyAV's chapters within a trim, on the output's clock."""
    moved = []
    for chapter in chapters:
        time_base = chapter["time_base"]
        first = round(start / time_base) if start else 0
        last = round(end / time_base) if end is not None else chapter["end"]
        if chapter["end"] <= first or chapter["start"] >= last:
            continue
        begin, finish = max(chapter["start"], first) - first, min(chapter["end"], last) - first
        moved.append({**chapter, "start": begin, "end": finish})
    return moved


def mov_language(code: str) -> str:
    """A language code in the spelling that FFmpeg's mov muxer knows."""
    code = SAME_LANGUAGE.get(code, code)
    return next((first for first in _MOV_FIRST if SAME_LANGUAGE[first] == code), code)
