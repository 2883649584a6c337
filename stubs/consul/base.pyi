from collections.abc import Mapping
from typing import NamedTuple

class Response(NamedTuple):
    code: int
    headers: Mapping[str, str]
    body: bytes | str

class HTTPClient:
    base_uri: str
    def __init__(self, host: str = ..., port: int = ..., scheme: str = ...) -> None: ...
