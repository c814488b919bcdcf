"""What can go wrong, said in one sentence each: what, where, and what to do next.

The command line prints the sentence and exits with `exit_code`; RTSR_DEBUG=1 shows the traceback instead.
"""


class RtsrError(Exception):
    """Base of every error that rtsr raises on purpose."""

    exit_code = 1


class ConfigError(RtsrError):
    """An option, a name or a combination of them that cannot work. Raised before any work starts."""

    exit_code = 2


class SourceError(RtsrError):
    """The input cannot be opened, read or decoded."""

    exit_code = 3


class EngineError(RtsrError):
    """An engine file is missing or damaged, a backend does not open, or inference failed."""

    exit_code = 4


class OutOfMemoryError(EngineError):
    """Memory ran out in a backend. What it held for the work is free again, so that less can be tried."""


class SinkError(RtsrError):
    """The output cannot be opened, encoded or written."""

    exit_code = 5


class IncompleteError(RtsrError):
    """The job ran to its end, but something of the input is not in the output."""

    exit_code = 6


class ClusterError(RtsrError):
    """The cluster cannot be reached, or none of its machines can do the work."""

    exit_code = 7


class Interrupted(RtsrError):
    """Ctrl-C or a polite kill."""

    exit_code = 130


def first_line(error: object) -> str:
    """The sentence that matters of another library's error or message: OpenVINO's carry a C++ trace below it."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[0] if lines else type(error).__name__
