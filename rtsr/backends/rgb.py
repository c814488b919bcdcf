"""Generators that work in RGB, under OpenVINO: planes in, planes out, the colour conversions inside their graph.

What the graph takes and gives is in training/rgb_export.py. Slower than the ladder by one to two orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from rtsr.backends import inference_error
from rtsr.backends.phases import BORDER, resite
from rtsr.color import MATRIX_601, WEIGHTS, matrix_of
from rtsr.errors import EngineError, first_line
from rtsr.frames import ColorTags, FrameBatch
from rtsr.manifest import Manifest, read_engine

FULL_RANGE = 2


class RgbEngine:
    """A `planes` engine with the inputs y, uv, matrix and range, on the CPU plugin: one batch at a time, all cores.

    color: the picture's own tags, which decide the conversion to RGB and back; what they leave open is taken as
    players take it. Both ways use the same numbers, so a wrong guess shifts no colour. bits: of a sample. Alpha and
    gray pictures run as gray; RGB pictures become 4:4:4 and come back, which may move a sample by one code value.
    """

    backend = "openvino"

    def __init__(self, manifest: Manifest, bits: int = 8, color: ColorTags | None = None):
        self.name, self.sha256 = manifest.name, manifest.sha256
        self.scale = manifest.scale
        self._bits, self._color = bits, color or ColorTags()
        self._core = ov.Core()
        try:
            self._model = self._core.read_model(read_engine(manifest))
            if bits > 8:
                self._model = deepen(self._model, bits)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read engine {manifest.name}: {first_line(error)}") from error
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._request: ov.InferRequest | None = None

    def infer(self, batch: FrameBatch) -> FrameBatch:
        if batch.bits != self._bits:
            raise EngineError(f"{self.name} was opened for {self._bits}-bit video; this has {batch.bits} bits")
        if batch.pixels.family == "rgb":
            return self._infer_rgb(batch)
        pixels, size = batch.pixels, batch.size
        large = (size[0] * self.scale, size[1] * self.scale)
        middle = (pixels.white + 1) // 2
        alpha = [self._run(batch, batch.y[:, 1:], gray(batch.y[:, 1:], middle))[0]] if pixels.alpha else []
        if pixels.family == "gray":
            y, _ = self._run(batch, batch.y[:, :1], gray(batch.y[:, :1], middle))
            uv = np.empty((len(batch), 0, *pixels.chroma_size(*large)), batch.uv.dtype)
        else:
            y, uv = self._run(batch, batch.y[:, :1], resite(batch.uv, batch.siting, self.scale, pixels))
            height, width = pixels.chroma_size(*large)
            uv = np.ascontiguousarray(uv[..., :height, :width])
        return batch.with_planes(np.concatenate([y, *alpha], axis=1), uv)

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return map(self.infer, batches)

    def close(self) -> None:
        self._request, self._shapes = None, ()

    def _infer_rgb(self, batch: FrameBatch) -> FrameBatch:
        """G, B, R planes by way of full-range BT.601 4:4:4."""
        white = batch.pixels.white
        kr, kb = WEIGHTS[MATRIX_601]
        g, b, r = (batch.y[:, i : i + 1].astype(np.float32) for i in range(3))
        luma = kr * r + (1 - kr - kb) * g + kb * b
        chroma = np.concatenate([(b - luma) / (2 * (1 - kb)), (r - luma) / (2 * (1 - kr))], axis=1) + (white + 1) / 2
        small, small_uv = (np.rint(x).clip(0, white).astype(batch.y.dtype) for x in (luma, chroma))
        y, uv = (x.astype(np.float32) for x in self._run(batch, small, small_uv, ((kr, kb), True)))
        uv -= (white + 1) / 2
        b, r = y + 2 * (1 - kb) * uv[:, :1], y + 2 * (1 - kr) * uv[:, 1:]
        g = (y - kr * r - kb * b) / (1 - kr - kb)
        large = np.rint(np.concatenate([g, b, r], axis=1)).clip(0, white).astype(batch.y.dtype)
        if batch.pixels.alpha:
            alpha, _ = self._run(batch, batch.y[:, 3:], gray(batch.y[:, 3:], (white + 1) // 2))
            large = np.concatenate([large, alpha], axis=1)
        return batch.with_planes(large, np.empty((len(batch), 0, *large.shape[2:]), large.dtype))

    def _run(
        self,
        batch: FrameBatch,
        y: np.ndarray,
        uv: np.ndarray,
        conversion: tuple[tuple[float, float], bool] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """y (N, 1, H, W), uv (N, 2, h, w) -> both, scale times larger; uv as large as its padded self allows."""
        s, (height, width) = self.scale, y.shape[2:]
        y, uv, (top, left) = bordered(y, uv)
        matrix, full = conversion or self._conversion(batch)
        try:
            if (y.shape, uv.shape) != self._shapes:
                self.close()
                self._model.reshape({"y": list(y.shape), "uv": list(uv.shape)})
                options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
                self._request = self._core.compile_model(self._model, "CPU", options).create_infer_request()
                self._shapes = (y.shape, uv.shape)
            assert self._request is not None
            inputs = {"y": y, "uv": uv, "matrix": np.array(matrix, np.float32), "range": self._range(full)}
            result = self._request.infer(inputs)
            y_out, uv_out = np.asarray(result["y_out"]), np.asarray(result["uv_out"])
        except (RuntimeError, MemoryError) as error:
            self.close()
            raise inference_error(
                self, batch, error if isinstance(error, MemoryError) else first_line(error)
            ) from error
        y_out = y_out[..., s * BORDER : s * (BORDER + height), s * BORDER : s * (BORDER + width)]
        return y_out.copy(), uv_out[..., s * top : -s * top, s * left : -s * left].copy()

    def _conversion(self, batch: FrameBatch) -> tuple[tuple[float, float], bool]:
        """(kr, kb) and whether the range is full."""
        return WEIGHTS[matrix_of(self._color.colorspace, batch.size[0])], self._color.range == FULL_RANGE

    def _range(self, full: bool) -> np.ndarray:
        """Code values of black, luma's span and chroma's span, on the scale of 0..255 on which the net works."""
        if full:
            return np.array([0, 255, 255], np.float32)
        # 16, 219 and 224 are shifted left in deeper video, but white becomes 255 by a division.
        limited = np.array([16, 219, 224], np.float64) * (1 << (self._bits - 8))
        return (limited * 255 / ((1 << self._bits) - 1)).astype(np.float32)


def gray(y: np.ndarray, middle: int) -> np.ndarray:
    """Neutral chroma (N, 2, H, W) for y (N, 1, H, W)."""
    return np.full((len(y), 2, *y.shape[2:]), middle, y.dtype)


def bordered(y: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Both planes with their rims mirrored around them, and the border of uv: BORDER luma pixels at least, more at the
    bottom and right where uv had been rounded up."""
    fits = [
        next(f for f in (1, 2, 4) if -(-side // f) == chroma)
        for side, chroma in zip(y.shape[2:], uv.shape[2:], strict=True)
    ]
    ends = [chroma * f - side for side, chroma, f in zip(y.shape[2:], uv.shape[2:], fits, strict=True)]
    rims = [(BORDER, BORDER + end) for end in ends]
    y = np.pad(y, ((0, 0), (0, 0), *rims), mode="symmetric")
    top, left = (BORDER // f for f in fits)
    return y, np.pad(uv, ((0, 0), (0, 0), (top, top), (left, left)), mode="symmetric"), (top, left)


def deepen(model: ov.Model, bits: int) -> ov.Model:
    """The engine for uint16 samples of `bits` bits: its ends are scaled from and to 0..2**bits - 1, the net stays."""
    white = float((1 << bits) - 1)
    inputs = [p for p in model.get_parameters() if p.get_friendly_name() not in ("y", "uv")]
    for old in model.get_parameters():
        if old.get_friendly_name() in ("y", "uv"):
            new = ops.parameter(old.get_partial_shape(), ov.Type.u16, name=old.get_friendly_name())
            new.output(0).set_names({old.get_friendly_name()})
            eight = ops.multiply(ops.convert(new, "f32"), np.float32(255 / white))
            for target in list(old.output(0).get_target_inputs()):
                if target.get_node().get_type_name() == "Convert":
                    target.get_node().output(0).replace(eight.output(0))
                else:  # the shape of the plane
                    target.replace_source_output(new.output(0))
            inputs.append(new)
    results = []
    for end in model.get_results():
        name = end.input_value(0).get_any_name()
        rounding = end.input_value(0).get_node()
        while rounding.get_type_name() != "Round":  # behind it stand the clip and the cast
            above = (value.get_node() for value in rounding.input_values())
            rounding = next(node for node in above if node.get_type_name() != "Constant")
        deep = ops.multiply(rounding.input_value(0), np.float32(white / 255))
        samples = ops.convert(ops.clamp(ops.round(deep, "half_to_even"), 0.0, white), "u16")
        samples.output(0).set_names({name})
        results.append(ops.result(samples))
    return ov.Model(results, inputs, model.get_friendly_name())  # pyright: ignore[reportGeneralTypeIssues] - its stubs
