"""A hundred damaged films; `python -m torture.fuzz` does two thousand."""

from __future__ import annotations

from pathlib import Path

from torture.fuzz import Fuzz, seeds

COUNT, SEED, JOBS = 100, 2, 2


def test_no_damage_makes_a_job_lie_hang_or_crash(tmp_path: Path) -> None:
    films, jobs = tmp_path / "films", tmp_path / "jobs"
    films.mkdir()
    jobs.mkdir()
    tally = Fuzz(seeds(films), jobs, SEED, long_limit_s=120).run(list(range(COUNT)), JOBS)
    assert tally.violations == []
    assert len({end for _, end in tally.ends}) >= 3  # whole, refused, damaged: films are not all damaged beyond reading
