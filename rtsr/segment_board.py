"""Who does which segment, when several devices or machines share a job; and what of their work is accepted."""

from __future__ import annotations

from collections import Counter, deque
from fractions import Fraction

from rtsr.errors import EngineError
from rtsr.journal import Journal
from rtsr.segment_worker import SegmentResult
from rtsr.sources.cuts import Cut

MOST_DEATHS = 3  # of workers on one segment: then it is the segment that kills them


class SegmentBoard:
    """Hands out the segments that a journal lacks, in order, and notes there what comes back.

        while not board.is_done:
            cut = board.take()          # None: all are in work or done
            ... board.accept(result)    # or board.died(cut, why), or board.give_back(cut)

    Where a part turns out not to be exactly what a single run makes of it, everything from it on is left to one:
    `stopped` says why, is_done becomes true once the parts before it are done, and the journal holds those alone.
    cuts: of find_cuts(). One thread at a time.
    """

    def __init__(self, journal: Journal, cuts: tuple[Cut, ...], time_base: Fraction):
        self._journal, self._cuts, self._time_base = journal, cuts, time_base
        self._deaths: Counter[int] = Counter()
        self._in_work: set[int] = set()
        self._end = len(cuts)  # what comes from here on is left to one
        self.stopped = ""
        for segment in journal.segments:
            cut = cuts[segment.index] if segment.index < len(cuts) else None
            if cut is None or not segment.clean or (segment.first_pts, segment.frames) != (cut.begin, len(cut.pts)):
                self._stop(segment.index, "an earlier run found that it needs repair")
                break
        done = {segment.index for segment in journal.segments}
        self._waiting = deque(cut for cut in cuts[: self._end] if cut.index not in done)

    @property
    def is_done(self) -> bool:
        return not self._in_work and not (self._waiting and self._waiting[0].index < self._end)

    def take(self) -> Cut | None:
        """The next segment to make; None if all are in work or done."""
        if not self._waiting or self._waiting[0].index >= self._end:
            return None
        cut = self._waiting.popleft()
        self._in_work.add(cut.index)
        return cut

    def give_back(self, cut: Cut) -> None:
        """Nobody works on it any more, and nobody is to blame."""
        self._in_work.discard(cut.index)
        self._waiting = deque(sorted([cut, *self._waiting], key=lambda waiting: waiting.index))

    def died(self, cut: Cut, how: str) -> str:
        """Its worker died: it is done again. Returns a sentence for people. Raises EngineError at the third death."""
        self.give_back(cut)
        self._deaths[cut.index] += 1
        what = f"the worker on the segment at {self._seconds(cut.index)} died ({how})"
        if self._deaths[cut.index] >= MOST_DEATHS:
            raise EngineError(f"{what}, {MOST_DEATHS} times now; what is finished is kept. Try a smaller --model")
        return f"{what}; another does it again"

    def accept(self, result: SegmentResult) -> bool:
        """Note a finished segment. Whether it counts; its file is removed if not."""
        index, segment = result.index, result.segment
        self._in_work.discard(index)
        if segment is None:
            self._stop(index, "the input needs repair there, which depends on what comes before")
            return False
        if index >= self._end:
            (self._journal.folder / segment.file).unlink(missing_ok=True)
            return False
        self._journal.add(segment)
        known = {neighbour.index: neighbour for neighbour in self._journal.segments}
        for at in (index, index + 1):  # the boundaries before and behind it
            if at - 1 in known and at in known:
                before, behind = known[at - 1].next_picture, known[at].first_picture
                if before and behind and before != behind:
                    self._stop(at, "the picture there depends on more than its keyframe")
        return index < self._end

    def _stop(self, index: int, why: str) -> None:
        """Leave everything from a segment on to one."""
        if index < self._end:
            self._end = index
            self.stopped = f"from {self._seconds(index)} on one device works alone: {why}"
            self._journal.drop_from(index)

    def _seconds(self, index: int) -> str:
        """When a segment begins, for people."""
        begin = self._cuts[min(index, len(self._cuts) - 1)].begin
        return f"{float(begin * self._time_base):.3f} s"
