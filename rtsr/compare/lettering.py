"""Text on pictures: names in dark boxes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

_WHITE = (245, 245, 245)
_HERSHEY = cv2.FONT_HERSHEY_DUPLEX
_OPACITY = 0.65
_WEIGHT = 500  # a little bolder than regular


class Lettering:
    """Letters of one height in pixels: OpenCV 5's own font, with all scripts; before 5 only ASCII, the rest as `?`."""

    def __init__(self, height: int):
        self.height = height
        self._face: Any = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None

    def box(self, text: str, longest: int) -> np.ndarray:
        """(h, w, 3) BGR: the text on black, its middle left out if it would be wider than `longest` pixels."""
        pad, row = self.height // 2, self.height * 2
        longest = max(longest - 2 * pad, self.height)
        if self._width(text) > longest:
            kept = len(text)
            while kept > 2 and self._width(text := _shortened(text, kept)) > longest:
                kept -= 1
        box = np.zeros((row, self._width(text) + 2 * pad, 3), np.uint8)
        self._write(box, text, (pad, round(self.height * 1.36)))
        return box

    def _width(self, text: str) -> int:
        if self._face is not None:
            (_, _, width, _) = cv2.getTextSize((0, 0), text, (0, 0), self._face, self.height, _WEIGHT)  # type: ignore[call-overload]
            return width
        return cv2.getTextSize(_ascii(text), _HERSHEY, self.height / 22, 1)[0][0]

    def _write(self, picture: np.ndarray, text: str, at: tuple[int, int]) -> None:
        if self._face is not None:
            cv2.putText(picture, text, at, _WHITE, self._face, self.height, _WEIGHT)  # type: ignore[call-overload]
        else:
            cv2.putText(picture, _ascii(text), at, _HERSHEY, self.height / 22, _WHITE, 1, cv2.LINE_AA)


def put(picture: np.ndarray, box: np.ndarray, left: int, top: int) -> None:
    """Lay a box over a picture (H, W, 3), which shows through its black. What lies outside is cut."""
    height, width = min(box.shape[0], picture.shape[0] - top), min(box.shape[1], picture.shape[1] - left)
    part = picture[top : top + height, left : left + width]
    dark = (part * (1 - _OPACITY)).astype(np.uint8)
    part[:] = np.maximum(dark, box[:height, :width])


def _shortened(text: str, kept: int) -> str:
    """Its beginning and, for the suffix is there, its end."""
    return f"{text[: (kept + 1) // 2]}\N{HORIZONTAL ELLIPSIS}{text[-(kept // 2) :]}"


def _ascii(text: str) -> str:
    known = text.replace("\N{HORIZONTAL ELLIPSIS}", "..").replace("\N{MULTIPLICATION SIGN}", "x")
    return known.encode("ascii", "replace").decode()
