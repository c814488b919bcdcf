"""What belongs to a file as a whole: chapters, tags and attached files, before and after."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtsr.sinks.tags import copy_tags, moved_chapters
from rtsr.sources.media import Input, open_input

if TYPE_CHECKING:
    from rtsr.verify import Verdict

_SAME_MOMENT_S = 0.0015  # Matroska rounds to a millisecond, at both ends


def compare_container(
    source: Input, output: Input, start: Fraction | None, end: Fraction | None, verdict: Verdict
) -> None:
    """Chapters with their titles and times, tags by name. start, end: the trim, in seconds."""
    with open_input(source) as before, open_input(output) as after:
        was, now = moved_chapters(before.chapters(), start, end), after.chapters()
        if len(was) != len(now):
            verdict.findings.append(f"the input has {len(was)} chapters, the output {len(now)}")
        for number, (a, b) in enumerate(zip(was, now, strict=False), start=1):
            same = all(abs(p - q) <= _SAME_MOMENT_S for p, q in zip(_span(a), _span(b), strict=True))
            verdict.expect(same and _title(a) == _title(b), f"chapter {number} ({_title(a)}) is not the input's")
        tags: dict[str, str] = {}
        copy_tags(before.metadata, tags)
        found = {key.lower() for key in after.metadata}
        if missing := sorted(key for key in tags if key.lower() not in found):
            verdict.findings.append(f"the output lacks the tags {', '.join(missing)}")
        verdict.facts["chapters"] = len(was)


def compare_attachments(source: Input, output: Input, wanted: set[int], verdict: Verdict) -> None:
    """Attached files (fonts) by content. wanted: stream indices of the input that must be there."""
    with open_input(source) as before, open_input(output) as after:
        contents = [_content(stream) for stream in after.streams if stream.type == "attachment"]
        for stream in before.streams:
            if stream.type == "attachment" and stream.index in wanted and _content(stream) not in contents:
                name = stream.metadata.get("filename", f"stream {stream.index}")
                verdict.findings.append(f"the attached file {name} is not in the output, or is another")


def _span(chapter: Any) -> tuple[float, float]:
    return tuple(float(chapter[key] * chapter["time_base"]) for key in ("start", "end"))  # type: ignore[return-value]


def _title(chapter: Any) -> str:
    return chapter["metadata"].get("title", "")


def _content(stream: Any) -> bytes:
    return bytes(stream.data or b"")
