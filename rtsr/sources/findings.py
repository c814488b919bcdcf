"""What a source found out about its input while it was read: what was lost, mended or changed."""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST_TIMES = 5  # named of all moments at which packets did not decode


@dataclass(slots=True)
class Findings:
    """undecodable: seconds of packets that did not decode. corrupt, repaired, transparent, interlaced: frames.
    changes: of the stream, each with its moment in seconds and what was done. complaints: what FFmpeg logged.
    cut_short: why the input is not whole.
    """

    undecodable: list[float] = field(default_factory=list)
    corrupt: int = 0
    repaired: int = 0
    transparent: int = 0
    interlaced: int = 0
    changes: dict[str, tuple[float, str]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    cut_short: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether nothing needed repair or was lost."""
        return not (self.undecodable or self.corrupt or self.repaired or self.transparent or self.cut_short)

    def damage(self) -> list[str]:
        """What is lost, one sentence each."""
        sentences = []
        if self.undecodable:
            when = ", ".join(f"{t:.3f} s" for t in self.undecodable[:_MOST_TIMES])
            sentences.append(f"{len(self.undecodable)} packets did not decode (near {when})")
        if self.corrupt:
            sentences.append(f"{self.corrupt} frames were decoded from damaged data")
        if self.transparent:
            sentences.append(
                f"{self.transparent} pictures are transparent, which the first is not; "
                "a --pix-fmt with alpha (such as yuva420p or gbrap) keeps that"
            )
        if self.cut_short:
            sentences.append(self.cut_short)
        return sentences

    def notices(self, tell_interlaced: bool) -> list[str]:
        """What was mended or changed without losing anything, one sentence each."""
        sentences = [f"{what} at {seconds:.3f} s; {then}" for what, (seconds, then) in self.changes.items()]
        if self.repaired:
            what = "frames had no usable timestamp; each was put behind the frame before it"
            sentences.append(f"{self.repaired} {what}")
        if self.interlaced and tell_interlaced:
            sentences.append(f"{self.interlaced} interlaced frames were deinterlaced (bwdif)")
        if self.complaints:
            sentences.append(f"the picture may be damaged: FFmpeg said {'; '.join(self.complaints)}")
        return sentences

    def add(self, other: Findings) -> None:
        """Take in what was found in another part of the same input."""
        self.undecodable += other.undecodable
        self.corrupt += other.corrupt
        self.repaired += other.repaired
        self.transparent += other.transparent
        self.interlaced += other.interlaced
        for what, first in other.changes.items():
            self.changes[what] = min(first, self.changes.get(what, first))
        self.complaints += [complaint for complaint in other.complaints if complaint not in self.complaints]
        self.cut_short = self.cut_short or other.cut_short
