"""The input, read block by block from the caller's disk by machines that do not see its path.

    worker: av.open(RemoteFile) -> read(4096) -> block 17 -> BlockExchange.read(17) ..
    caller: .. BlockExchange.wanted() -> [17] -> pread -> BlockExchange.supply(17, bytes)

A Ray client cannot be called from the cluster, so the caller asks what is wanted instead of being asked for it.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av.container
from av.codec.hwaccel import HWAccel

from rtsr.sources.media import LOCAL_ONLY, Media

BLOCK = 4 << 20  # bytes: ten seconds of a film are a few of them
_KEPT_AT_WORKER, _KEPT_IN_EXCHANGE = 8, 32  # blocks


class BlockExchange:
    """Where workers ask for blocks and the caller hands them in; a Ray actor. Keeps the last 128 MiB for others."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._coming: dict[int, asyncio.Future[bytes]] = {}
        self._wanted: asyncio.Queue[int] = asyncio.Queue()

    async def read(self, number: int) -> bytes:
        """One block, once the caller has handed it in."""
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        if number not in self._coming:
            self._coming[number] = asyncio.get_running_loop().create_future()
            self._wanted.put_nowait(number)
        return await asyncio.shield(self._coming[number])  # others may wait for it as well

    async def wanted(self) -> int:
        """The next block that somebody waits for, once there is one. The caller asks."""
        return await self._wanted.get()

    async def supply(self, number: int, data: bytes) -> None:
        self._blocks[number] = data
        if len(self._blocks) > _KEPT_IN_EXCHANGE:
            self._blocks.popitem(last=False)
        if waiting := self._coming.pop(number, None):
            waiting.set_result(data)


async def supply_blocks(exchange: Any, path: Path) -> None:
    """Hand in what is wanted of a file until cancelled. exchange: the actor. Raises OSError if the file fails."""
    with path.open("rb") as file:
        while True:
            number = await exchange.wanted.remote()
            await exchange.supply.remote(number, await asyncio.to_thread(_block, file, number))


def _block(file: io.BufferedReader, number: int) -> bytes:
    file.seek(number * BLOCK)
    return file.read(BLOCK)


@dataclass(frozen=True, slots=True)
class RemoteMedia(Media):
    """A file of the caller's, for a worker. size: its bytes; exchange: the actor."""

    size: int = 0
    exchange: Any = None

    def open(self, hwaccel: HWAccel | None = None) -> av.container.InputContainer:
        # the file's name alone: FFmpeg takes its ending for a hint, as it does with a path
        return self._open(RemoteFile(Path(self.name).name, self.size, self.exchange), LOCAL_ONLY, hwaccel=hwaccel)


class RemoteFile(io.RawIOBase):
    """A caller's file as av.open() reads it. One thread at a time. Raises Ray's errors when the caller is gone."""

    def __init__(self, name: str, size: int, exchange: Any):
        super().__init__()
        self.name = name
        self._size, self._exchange, self._at = size, exchange, 0
        self._blocks: OrderedDict[int, Any] = OrderedDict()  # Ray's references, so that a block can be on its way

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._at, BLOCK - self._at % BLOCK), 0)
        if count:
            number, offset = divmod(self._at, BLOCK)
            buffer[:count] = self._block(number)[offset : offset + count]
            self._at += count
        return count

    def _block(self, number: int) -> bytes:
        import ray  # pyright: ignore[reportMissingImports] - there wherever a worker runs

        for ahead in (number, number + 1):  # the next one comes while this one is decoded
            if ahead not in self._blocks and ahead * BLOCK < self._size:
                self._blocks[ahead] = self._exchange.read.remote(ahead)
        self._blocks.move_to_end(number)
        while len(self._blocks) > _KEPT_AT_WORKER:
            self._blocks.popitem(last=False)
        return ray.get(self._blocks[number])
