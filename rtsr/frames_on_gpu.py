"""Pictures that lie on a GPU, in the shape of those that lie in memory: whoever looks at samples downloads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from rtsr.backends.cuda.nv12 import Surface
from rtsr.frames import Frame, FrameBatch
from rtsr.pixels import PixelFormat

Planes = tuple[np.ndarray, np.ndarray]


class PictureOnGpu:
    """A picture on a GPU, decoded or finished. surface: where; gpu: which, as CUDA counts; owner: what keeps the memory
    from being used again; download: makes y (1, H, W) and uv (2, h, w) of it."""

    def __init__(self, surface: Surface, gpu: int, owner: object, download: Callable[[], Planes]):
        self.surface, self.gpu = surface, gpu
        self._owner, self._download = owner, download
        self._planes: Planes | None = None

    def planes(self) -> Planes:
        """Its samples in memory, downloaded once."""
        self._planes = self._planes or self._download()
        return self._planes

    def as_arrays(self, pixels: PixelFormat) -> Planes:
        """y and uv as a Frame holds them, nothing downloaded yet."""
        s = self.surface
        across, down = s.chroma_size
        y = _PlanesOnGpu(self, 0, (1, s.height, s.width), pixels.dtype)
        return cast(np.ndarray, y), cast(np.ndarray, _PlanesOnGpu(self, 1, (2, down, across), pixels.dtype))


def picture_on_gpu(one: FrameBatch | Frame, gpu: int | None = None) -> PictureOnGpu | None:
    """What a frame, or a batch of one, holds if that lies on this GPU (None: on any), whole."""
    y, uv = cast(Any, one.y), cast(Any, one.uv)
    if isinstance(y, _PlanesOnGpu) and isinstance(uv, _PlanesOnGpu) and y.picture is uv.picture:
        return y.picture if gpu in (None, y.picture.gpu) else None
    return None


class _PlanesOnGpu:
    """Stands for an array of shape (C, H, W), or (1, C, H, W). Adding that first dimension and taking it away costs
    nothing; anything else is done with the downloaded samples."""

    def __init__(self, picture: PictureOnGpu, which: int, shape: tuple[int, ...], dtype: np.dtype):
        self.picture, self.shape, self.dtype = picture, shape, dtype
        self._which = which

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if key is None and self.ndim == 3:
            return _PlanesOnGpu(self.picture, self._which, (1, *self.shape), self.dtype)
        if isinstance(key, int) and key == 0 and self.ndim == 4:
            return _PlanesOnGpu(self.picture, self._which, self.shape[1:], self.dtype)
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        planes = self.picture.planes()[self._which].reshape(self.shape)
        return np.array(planes, dtype=dtype, copy=True) if copy else planes.astype(dtype or planes.dtype, copy=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # numpy asks for more protocols than __array__
            raise AttributeError(name)
        return getattr(np.asarray(self), name)
