"""An RTSP server that shares no code with FFmpeg: GStreamer's. Run by the system's own Python, which has its bindings.

rtsp_server.py FILM.mp4 RECORDING.h264 [PORT]: serves the film's H.264 at /film, takes what is sent to /in into the
recording, and prints its port.
"""

from __future__ import annotations

import sys
from typing import Any

import gi  # pyright: ignore[reportMissingImports]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  # pyright: ignore[reportMissingImports]


def factory(launch: str, mode: Any) -> Any:
    made = GstRtspServer.RTSPMediaFactory()
    made.set_launch(f"( {launch} )")
    made.set_transport_mode(mode)
    return made


def main(film: str, recording: str, port: str = "0") -> None:
    Gst.init(None)
    modes = GstRtspServer.RTSPTransportMode
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    mounts = server.get_mount_points()
    mounts.add_factory(
        "/film", factory(f"filesrc location={film} ! qtdemux ! queue ! rtph264pay name=pay0", modes.PLAY)
    )
    to_file = f"video/x-h264,stream-format=byte-stream ! filesink location={recording} sync=false async=false"
    mounts.add_factory("/in", factory(f"rtph264depay name=depay0 ! {to_file}", modes.RECORD))
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
