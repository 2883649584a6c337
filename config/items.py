"""Any document to what a registry gives: the one place that knows every form a source may have.

Sources that carry whole objects (files, keys of a store) use it; those with a typed API decode
their objects with `config.core` themselves.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import Problem, Severity
from aggregator.model.registry import RegistryContext, ServiceItem
from config.core.endpoint_slice import decode_endpoint_slice
from config.core.endpoints import decode_endpoints
from config.core.service import decode_service
from config.decode import is_rule, load_config
from config.documents import Document
from config.terse import decode_terse, is_terse

_CORE: Final[Mapping[tuple[str, str], Callable[[Document, RegistryContext], ServiceItem]]] = {
    ("v1", "Service"): decode_service,
    ("v1", "Endpoints"): decode_endpoints,
    ("discovery.k8s.io/v1", "EndpointSlice"): decode_endpoint_slice,
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): decode_endpoint_slice,
}


class Items(Struct, frozen=True):
    """What one document gives."""

    services: tuple[ServiceItem, ...] = ()
    rules: tuple[Config, ...] = ()
    warnings: tuple[Problem, ...] = ()


def decode_items(document: Document, context: RegistryContext) -> Items:
    """Decode and validate one document; kinds that nothing here reads give a warning.

    Raises ConfigError with every error.
    """
    if is_terse(document):
        return Items(services=decode_terse(document, context))
    data = document.data
    decode = _CORE.get((str(data.get("apiVersion")), str(data.get("kind"))))
    if decode is not None:
        return Items(services=(decode(document, context),))
    if is_rule(document) or "kind" not in data or "apiVersion" not in data:
        loaded = load_config(document, default_namespace=context.namespace)
        return Items(rules=(loaded.config,), warnings=loaded.warnings)
    message = f"nothing reads {data['apiVersion']} {data['kind']}; ignored"
    return Items(warnings=(Problem(document.position("kind"), "kind", message, Severity.WARNING),))
