"""Frames of several films matched by the time at which they are shown, whatever their rates and counts are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

from rtsr.compare.films import Film
from rtsr.errors import ConfigError
from rtsr.frames import Frame
from rtsr.threads import prefetch

TOLERANCE_S = Fraction(2, 1000)  # Matroska rounds times to milliseconds, and two files may round one time differently
_AHEAD = 3  # decoded frames of each film that wait
_FOREVER = Fraction(10**9)  # seconds


@dataclass(frozen=True, slots=True)
class Moment:
    """What is shown at one time: a frame of each film, in the order of the films. seconds: on A's clock."""

    seconds: Fraction
    frames: tuple[Frame, ...]


class Cursor:
    """The frame of a film that is shown at a time; times must rise. offset: seconds that its clock is ahead.

    begin, end: seconds, of what was read so far. passed: frames that went by. is_over: asked for what comes after its
    end.
    """

    def __init__(self, frames: Iterator[Frame], offset: Fraction):
        self._frames, self._offset = frames, offset
        self._now: Frame | None = None
        self.passed = 0
        self.is_over = False
        self._next = next(frames, None)
        self.begin = self._time(self._next) if self._next else Fraction(0)
        self.end = self.begin

    def at(self, seconds: Fraction) -> Frame | None:
        """None before the first frame and after the last."""
        while self._next is not None and self._time(self._next) <= seconds + TOLERANCE_S:
            self._now, self._next = self._next, next(self._frames, None)
            self.passed += 1
            self.end = self._time(self._now) + self._now.duration * self._now.time_base
        if self._now is None:
            return None
        last_moment = max(self.end - TOLERANCE_S, self._time(self._now) + TOLERANCE_S)
        self.is_over = self._next is None and seconds > last_moment
        return None if self.is_over else self._now

    def _time(self, frame: Frame) -> Fraction:
        return frame.pts * frame.time_base - self._offset


class Moments:
    """The moments that all films have, one for each frame of the first.

    offset: seconds that the others' clocks are ahead of the first's. count: moments so far. notices: what a user should
    know of the matching, complete once all moments were read. Raises ConfigError for a picture beside a film.
    """

    def __init__(self, films: Sequence[Film], offset: Fraction = Fraction(0)):
        self._films, self._offset = films, offset
        self.count = 0
        self.notices: list[str] = []
        if len({film.is_picture for film in films}) > 1:
            kinds = (f"{film.name} is a {'picture' if film.is_picture else 'film'}" for film in films)
            raise ConfigError(f"{', '.join(kinds)}: only two of a kind can be compared")

    def __iter__(self) -> Iterator[Moment]:
        """Raises ConfigError if there is no moment that all have, else what the sources raise."""
        with ExitStack() as stack:
            lead, *others = (
                stack.enter_context(prefetch(film.source.frames(), _AHEAD, f"decode-{film.role}"))
                for film in self._films
            )
            cursors = [Cursor(frames, self._offset) for frames in others]
            begin = end = None
            passed, within = [0] * len(cursors), [0] * len(cursors)
            for frame in lead:
                seconds = frame.pts * frame.time_base
                begin = seconds if begin is None else begin
                end = seconds + frame.duration * frame.time_base
                shown = [each for cursor in cursors if (each := cursor.at(seconds)) is not None]
                if len(shown) == len(cursors):
                    if not self.count:
                        passed = [cursor.passed - 1 for cursor in cursors]
                    self.count += 1
                    within = [cursor.passed - before for cursor, before in zip(cursors, passed, strict=True)]
                    yield Moment(seconds, (frame, *shown))
                elif self.count and any(cursor.is_over for cursor in cursors):
                    break
            assert begin is not None and end is not None, "a source gives a frame or raises"
            self._note_ends(begin, end, cursors)
            self._note_rates(within)

    def _note_ends(self, begin: Fraction, end: Fraction, cursors: Sequence[Cursor]) -> None:
        first, *others = self._films
        for film, cursor in zip(others, cursors, strict=True):
            if not self.count:
                cursor.at(_FOREVER)  # to know its end
                raise ConfigError(
                    f"{first.role} runs from {float(begin):.3f} to {float(end):.3f} s and {film.role} from "
                    f"{float(cursor.begin):.3f} to {float(cursor.end):.3f} s: they have no moment in common; --offset "
                    f"moves {film.role}"
                )
            if abs(cursor.begin - begin) > TOLERANCE_S:
                late = "later" if cursor.begin > begin else "earlier"
                self.notices.append(
                    f"{film.role} begins {float(abs(cursor.begin - begin)):.3f} s {late} than {first.role}; times are "
                    "matched as the files tell them, --offset moves them"
                )
            if cursor.is_over:
                self.notices.append(
                    f"{film.role} ends at {float(cursor.end):.3f} s, before {first.role}: the comparison ends there"
                )

    def _note_rates(self, within: Sequence[int]) -> None:
        """within: frames that each of the other films shows in the time of all moments."""
        first, *others = self._films
        for film, frames in zip(others, within, strict=True):
            if abs(frames - self.count) > 1:
                self.notices.append(
                    f"{film.role} shows {frames} frames in the time of {self.count} of {first.role}: each frame of "
                    f"{first.role} was compared with the one of {film.role} that is shown at its time"
                )
