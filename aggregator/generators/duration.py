"""Seconds, as settings and rules hold them, into protobuf's form."""

from google.protobuf.duration_pb2 import Duration

_NANOS = 1_000_000_000


def build_duration(seconds: float) -> Duration:
    """Rounded to the nanosecond."""
    whole, nanos = divmod(round(seconds * _NANOS), _NANOS)
    return Duration(seconds=whole, nanos=nanos)
