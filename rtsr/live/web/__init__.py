"""`rtsr live --web`: the page. One server, three ways for the pictures, and the visitor's own camera."""

from rtsr.live.web.sink import WebSink

__all__ = ["WebSink"]
