"""A TCP proxy whose connections go wrong on demand: what a network and a dying server do, for any protocol."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

PIECE = 1 << 16  # bytes
_Result = TypeVar("_Result")

#: How a connection ends: with an orderly close, with a reset, or in silence while it stays open.
End = Literal["close", "reset", "silence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befalls a connection; made by `delay`, `drop`, `reset`, `cut`, `interrupt` and `answer`."""

    #: Seconds that each piece of bytes waits, in both directions.
    delay: float = 0.0
    #: Bytes of the server's that still come through; it ends where the next would. None if it never does.
    after: int | None = None
    #: The same of the client's.
    taken: int | None = None
    end: End = "close"
    #: What the client is told instead of asking the server, after its whole HTTP request.
    answer: bytes | None = None


def delay(seconds: float) -> Fault:
    """All bytes come late."""
    return Fault(delay=seconds)


def drop(after: int = 0) -> Fault:
    """From so many bytes of the server's on, nothing comes any more, and nothing says so."""
    return Fault(after=after, end="silence")


def reset(after: int = 0) -> Fault:
    """After so many bytes of the server's, the connection is reset."""
    return Fault(after=after, end="reset")


def cut(after: int = 0) -> Fault:
    """After so many bytes of the server's, the connection is closed as if that were all."""
    return Fault(after=after, end="close")


def interrupt(taken: int = 0, end: End = "reset") -> Fault:
    """After so many bytes of the client's the server hears no more, and the client is cut off; or is in silence."""
    return Fault(taken=taken, end=end)


def answer(status: str) -> Fault:
    """An HTTP request is answered with a status ("503 Slow Down") and nothing else."""
    return Fault(answer=f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


class Proxy:
    """Stands before a server, on a port of its own, in a thread of its own; use it in a `with`.

    Args:
        host: of the server.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._next: deque[Fault] = deque()
        self._always = Fault()
        #: With their tasks, which nobody else holds once the client has gone.
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._server: asyncio.Server | None = None
        #: Connections that were made so far.
        self.connections = 0
        #: Where it listens, on 127.0.0.1.
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def next(self, *faults: Fault) -> None:
        """What befalls the next connections, one each; then they are as always."""
        self._next.extend(faults)

    def always(self, fault: Fault | None = None) -> None:
        """What befalls all connections that are made from now on; nothing, unless something is given."""
        self._always = fault or Fault()

    def sever(self) -> None:
        """Reset all connections that are open."""
        self._do(self._sever())

    def refuse(self) -> None:
        """Be gone: connections that are open are reset, and nobody listens."""
        self._do(self._close())

    def accept(self) -> None:
        """Listen, again on the same port."""
        self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _sever(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._sever()

    async def _stop(self) -> None:
        await self._close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # one that was just accepted begins another
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # a turn for what was closed to be gone

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self._next.popleft() if self._next else self._always
        self._open[writer] = asyncio.current_task()
        try:
            if fault.answer is not None:
                await _request(reader, writer)
                writer.write(fault.answer)
                await writer.drain()
            else:
                await self._relay(reader, writer, fault)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # either side has gone, or we go
            pass
        finally:
            writer.close()
            await _gone(writer)
            del self._open[writer]

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        from_server, to_server = await asyncio.open_connection(*self._upstream)
        up = asyncio.ensure_future(_pump(reader, to_server, fault))
        try:
            left = fault.after
            while left is None or left > 0:
                piece = await from_server.read(PIECE if left is None else min(left, PIECE))
                if not piece:
                    return
                await asyncio.sleep(fault.delay)
                writer.write(piece)
                await writer.drain()
                left = left if left is None else left - len(piece)
            await from_server.read(1)  # the server did what it was asked to, and that is what is not heard
            if fault.end == "reset":
                _reset(writer)
            elif fault.end == "silence":
                await up  # until the client gives up
        finally:
            up.cancel()
            to_server.close()  # before anything is awaited: we may be cancelled there
            await asyncio.gather(up, return_exceptions=True)
            await _gone(to_server)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
    left = fault.taken
    try:
        while left is None or left > 0:
            piece = await reader.read(PIECE if left is None else min(left, PIECE))
            if not piece:
                writer.write_eof()
                return
            await asyncio.sleep(fault.delay)
            writer.write(piece)
            await writer.drain()
            left = left if left is None else left - len(piece)
        while await reader.read(PIECE) and fault.end == "silence":  # until the client gives up
            pass
        if fault.end == "reset":
            _reset(writer)
        writer.close()  # the server sees it, and the relay ends, which cuts the client off
    except OSError:
        writer.close()


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read an HTTP request; answered before its end, a client would see a reset instead of the answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    if "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await reader.readexactly(int(headers.get("content-length", 0)))


async def _gone(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it was reset
        await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    plug: socket.socket = writer.get_extra_info("socket")
    if plug.fileno() < 0:  # it is closed already
        return
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed without what is to be sent
    writer.transport.abort()
