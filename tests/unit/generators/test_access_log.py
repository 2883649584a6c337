"""The access log as the mesh settings ask for it."""

from envoy.extensions.access_loggers.file.v3 import file_pb2
from google.protobuf import json_format

from aggregator.generators.access_log import build_access_logs
from config.mesh import AccessLogEncoding, MeshConfig
from tests.support.view import FakeView


def read_log(view: FakeView) -> file_pb2.FileAccessLog:
    (log,) = build_access_logs(view)
    written = file_pb2.FileAccessLog()
    assert log.typed_config.Unpack(written)
    return written


def test_no_file_is_no_log() -> None:
    """Logging every request costs, so it is asked for."""
    assert not build_access_logs(FakeView())


def test_text_is_the_default_and_ends_its_lines() -> None:
    """Envoy writes a format as it stands; without the line's end all would be one line."""
    log = read_log(FakeView(mesh=MeshConfig(access_log_file="/dev/stdout")))

    assert log.path == "/dev/stdout"
    text = log.log_format.text_format_source.inline_string
    assert text.startswith("[%START_TIME%]")
    assert text.endswith("%ROUTE_NAME%\n")


def test_own_text_replaces_the_default() -> None:
    """accessLogFormat is the user's."""
    mesh = MeshConfig(access_log_file="/dev/stdout", access_log_format="%PROTOCOL%")

    log = read_log(FakeView(mesh=mesh))

    assert log.log_format.text_format_source.inline_string == "%PROTOCOL%\n"


def test_json_has_the_fields_that_readers_look_for() -> None:
    """Log pipelines select by these names."""
    mesh = MeshConfig(access_log_file="/dev/stdout", access_log_encoding=AccessLogEncoding.JSON)

    fields = json_format.MessageToDict(read_log(FakeView(mesh=mesh)).log_format.json_format)

    assert fields["response_code"] == "%RESPONSE_CODE%"
    assert fields["upstream_cluster"] == "%UPSTREAM_CLUSTER_RAW%"


def test_own_json_keeps_its_nesting() -> None:
    """A JSON format may have objects in it."""
    mesh = MeshConfig(
        access_log_file="/dev/stdout",
        access_log_encoding=AccessLogEncoding.JSON,
        access_log_format='{"http": {"status": "%RESPONSE_CODE%"}}',
    )

    fields = json_format.MessageToDict(read_log(FakeView(mesh=mesh)).log_format.json_format)

    assert fields == {"http": {"status": "%RESPONSE_CODE%"}}


def test_json_that_is_none_is_reported_and_replaced() -> None:
    """A slip in a log format must not take the listeners away."""
    mesh = MeshConfig(
        access_log_file="/dev/stdout",
        access_log_encoding=AccessLogEncoding.JSON,
        access_log_format="%PROTOCOL%",
    )
    view = FakeView(mesh=mesh)

    fields = json_format.MessageToDict(read_log(view).log_format.json_format)

    assert fields["protocol"] == "%PROTOCOL%"
    assert [problem.path for problem in view.problems] == ["accessLogFormat"]
