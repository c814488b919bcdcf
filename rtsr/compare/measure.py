"""What is measured on films: PSNR-Y and SSIM-Y of every moment, and VMAF where there is a reference and a libvmaf."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from rtsr import vmaf
from rtsr.compare.films import Canvas, Film, Fitting
from rtsr.compare.moments import Moment
from rtsr.metrics import psnr, ssim

PSNR, SSIM = "psnr_y", "ssim_y"
TITLES = {PSNR: "PSNR-Y", SSIM: "SSIM-Y", "vmaf": "VMAF", "vmaf_neg": "VMAF-NEG"}
UNITS = {PSNR: "dB", SSIM: "", "vmaf": "", "vmaf_neg": ""}
DIGITS = {PSNR: 2, SSIM: 4, "vmaf": 2, "vmaf_neg": 2}

Series = dict[str, list[float]]  # metric -> a value for each measured moment; PSNR of equal pictures is infinite


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. truth: the role that the others were held against. series: by role.

    seconds: of each measured moment. every: which of the moments were measured. vmaf_binary: what measured VMAF, empty
    if nothing did.
    """

    truth: str
    seconds: list[float]
    series: dict[str, Series]
    every: int
    vmaf_binary: str

    @property
    def metrics(self) -> list[str]:
        return list(next(iter(self.series.values()), {}))

    def at(self, index: int) -> dict[str, dict[str, float]]:
        """Figures of one measured moment, by role and metric."""
        return {role: {name: values[index] for name, values in found.items()} for role, found in self.series.items()}

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By role and metric: mean, lowest, and its time. Equal pictures have no PSNR: they are counted instead, and
        left out of its mean, which is None if all are equal."""
        return {
            role: {name: self._summarised(values) for name, values in found.items()}
            for role, found in self.series.items()
        }

    def _summarised(self, values: list[float]) -> dict[str, Any]:
        finite = [value for value in values if math.isfinite(value)]
        lowest = min(range(len(values)), key=values.__getitem__)
        return {
            "mean": fmean(finite) if finite else None,
            "lowest": values[lowest] if finite else None,
            "lowest_at_s": self.seconds[lowest],
            "equal_frames": len(values) - len(finite),
        }


class Measurer:
    """Takes moments in order. films: the truth is the last for a reference, else A.

    every: measure each `every`-th moment; VMAF is fed all of them, because motion is a part of it. notices: why there
    is no VMAF although there is a reference. Close it when done.
    """

    def __init__(self, films: Sequence[Film], fittings: Sequence[Fitting], canvas: Canvas, every: int):
        self._fittings, self._border, self._every = fittings, canvas.border, every
        self._truth = len(films) - 1 if films[-1].role == "Reference" else 0
        self._measured = [i for i in range(len(films)) if i != self._truth]
        self._roles = [film.role for film in films]
        self._seconds: list[float] = []
        self._series: dict[int, Series] = {i: {PSNR: [], SSIM: []} for i in self._measured}
        self._count = 0
        self.notices: list[str] = []
        self._binary = self._find_vmaf(canvas) if self._truth else ""
        self._stack = ExitStack()
        self._pool = self._stack.enter_context(ThreadPoolExecutor(len(films), "measure"))
        self._vmafs = {
            i: self._stack.enter_context(vmaf.Vmaf(*canvas.size, every)) for i in self._measured if self._binary
        }

    def _find_vmaf(self, canvas: Canvas) -> str:
        if min(canvas.size) < vmaf.SMALLEST:
            self.notices.append(f"no VMAF: pictures of {canvas.size[0]}x{canvas.size[1]} are too small for it")
            return ""
        if not (binary := vmaf.ffmpeg()):
            self.notices.append("no VMAF: there is no ffmpeg with libvmaf; `pip install imageio-ffmpeg` brings one")
        return binary

    @property
    def wants_next(self) -> bool:
        """Whether the next moment is one of those that are measured."""
        return self._count % self._every == 0

    def add(self, moment: Moment) -> None:
        wanted = self.wants_next
        self._count += 1
        if not wanted and not self._vmafs:
            return
        lumas = [fitting.luma(frame) for fitting, frame in zip(self._fittings, moment.frames, strict=True)]
        truth = lumas[self._truth]
        if wanted:
            self._seconds.append(float(moment.seconds))
            pending = {
                (i, name): self._pool.submit(measure, lumas[i], truth, self._border)
                for name, measure in ((PSNR, psnr), (SSIM, ssim))
                for i in self._measured
            }
            for (i, name), value in pending.items():
                self._series[i][name].append(value.result())
        for i, process in self._vmafs.items():
            process.write(_rounded(lumas[i]), _rounded(truth))

    def finish(self) -> Figures:
        """Raises EngineError with ffmpeg's words if VMAF failed."""
        for i, process in self._vmafs.items():
            self._series[i] |= process.finish()
        series = {self._roles[i]: found for i, found in self._series.items()}
        return Figures(self._roles[self._truth], self._seconds, series, self._every, self._binary)

    def close(self) -> None:
        self._stack.close()


def _rounded(luma: np.ndarray) -> np.ndarray:
    return luma if luma.dtype == np.uint8 else np.rint(luma).clip(0, 255).astype(np.uint8)
