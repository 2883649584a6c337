"""Envoy's access log to a file, as the mesh settings ask for it.

Without a format of the user's, lines hold the fields that readers of Istio's logs expect, by
their names and in their order.
"""

from typing import Final

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from google.protobuf import json_format, struct_pb2

from aggregator.generators.spec import View
from aggregator.model.errors import Origin

_TEXT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
_JSON: Final = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}


def build_access_logs(view: View) -> list[accesslog_pb2.AccessLog]:
    """One log, or none where no file is set."""
    path = view.mesh.access_log_file
    if not path:
        return []
    log = accesslog_pb2.AccessLog(name="envoy.access_loggers.file")
    log.typed_config.Pack(
        file_pb2.FileAccessLog(path=path, log_format=_build_format(view)), deterministic=True
    )
    return [log]


def _build_format(view: View) -> substitution_format_string_pb2.SubstitutionFormatString:
    wanted = view.mesh.access_log_format
    if view.mesh.access_log_encoding == "JSON":
        return substitution_format_string_pb2.SubstitutionFormatString(
            json_format=_build_json(view, wanted)
        )
    text = wanted or _TEXT
    return substitution_format_string_pb2.SubstitutionFormatString(
        text_format_source=base_pb2.DataSource(
            inline_string=text if text.endswith("\n") else text + "\n"
        )
    )


def _build_json(view: View, wanted: str) -> struct_pb2.Struct:
    fields: dict[str, object] = dict(_JSON)
    if wanted:
        try:
            fields = msgspec.json.decode(wanted.encode(), type=dict[str, object])
        except msgspec.MsgspecError as error:
            view.report(
                Origin("mesh"),
                "MeshConfig",
                f"with accessLogEncoding JSON the format must be a JSON object ({error}); "
                "the default format is used",
                path="accessLogFormat",
            )
    return json_format.ParseDict(fields, struct_pb2.Struct())
