"""`--to`: a receiver that goes away, and comes back or does not. Real sockets on loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from fractions import Fraction

import pytest
from commands import SMALL, rtsr
from live_fakes import Gallery, small_ladder

from rtsr.errors import ConfigError, SinkError
from rtsr.live.pattern import PatternSource
from rtsr.live.send import SendSink
from rtsr.live.session import Session

PACKET = 188  # bytes of a TS packet, which begins with 0x47


class Receiver:
    """Takes `connections` one after the other and hangs up after so many bytes of each; then nobody listens."""

    def __init__(self, *connections: int):
        self.heads: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._work, args=(connections,))
        self._thread.start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()
        self._thread.join()

    def _work(self, connections: tuple[int, ...]) -> None:
        self._socket.settimeout(60)
        for most in connections:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            taken = b""
            with peer:
                while len(taken) < most and (part := peer.recv(4096)):
                    taken += part
            self.heads.append(taken[:PACKET])
        self._socket.close()


def session_to(receiver: Receiver, retry: int) -> tuple[Session, list[str]]:
    said: list[str] = []
    session = Session(PatternSource(64, 48, Fraction(60)), small_ladder(), 2, notice=said.append)
    session.add(SendSink(receiver.url, session.output_spec, session.source, retry=retry, notice=session.note))
    return session, said


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtsr.live.reconnect.BACK_OFF_S", (0.05, 0.1))


def test_a_receiver_that_comes_back_is_connected_again_and_what_it_missed_is_counted() -> None:
    with Receiver(PACKET * 4, 1 << 40) as receiver:
        session, said = session_to(receiver, retry=3)

        def wait() -> None:
            end = time.monotonic() + 60
            while not any("connected again" in sentence for sentence in said) and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.3)
            session.quit()

        waiter = threading.Thread(target=wait)
        waiter.start()
        summary = session.run(60)
        waiter.join()
    assert "the connection broke" in said[0] and "connecting again in 0.05 s (1 of 3)" in said[0]
    assert said[1] == f"--to {receiver.url}: connected again"
    assert not summary.sink_errors and summary.dropped["to"] > 0
    assert len(receiver.heads) == 2 and all(head[:1] == b"\x47" for head in receiver.heads)


def test_attempts_are_counted_and_end_in_a_sentence() -> None:
    with Receiver(PACKET * 4) as receiver:
        session, said = session_to(receiver, retry=2)
        with pytest.raises(SinkError, match=r"cannot be opened .*; 2 attempts to connect again failed"):
            session.run(60)
    assert [sentence[-8:] for sentence in said] == ["(1 of 2)", "(2 of 2)"]


def test_without_retry_the_session_goes_on_for_the_others_and_tells_of_the_loss() -> None:
    with Receiver(PACKET * 4) as receiver:
        session, said = session_to(receiver, retry=0)
        gallery = Gallery()
        session.add(gallery)
        threading.Timer(1.5, session.quit).start()
        summary = session.run(60)
    (error,) = summary.sink_errors
    assert "the connection broke" in error and "--retry N" in error and said == [error]
    assert gallery.closed == 1


def test_a_lost_receiver_is_an_exit_code_and_one_sentence_and_the_recording_is_whole(tmp_path) -> None:
    import av

    path = tmp_path / "out.mkv"
    with Receiver(PACKET * 4) as receiver:
        words = ("live", *SMALL, "--source", "testsrc", "--size", "64x48", "--duration", "2", "--quiet", "--json")
        outcome = rtsr(*words, "--to", receiver.url, "--record", path)
    assert outcome.code == 5
    assert "the connection broke" in outcome.sentence
    assert json.loads(outcome.stdout)["exit_code"] == 5
    with av.open(str(path)) as recording:
        assert sum(1 for _ in recording.decode(video=0)) > 1


def test_what_cannot_be_sent_to_is_said_before_anything_begins() -> None:
    source = PatternSource(64, 48)
    with pytest.raises(ConfigError, match="cannot send by ftp"):
        SendSink("ftp://me:secret@host/x", source.spec, source)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SinkError, match="cannot be opened"):
        SendSink(f"rtmp://127.0.0.1:{port}/live", source.spec, source, retry=3)
