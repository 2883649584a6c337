"""A service account of a cluster that may read it, and the credential of that account.

Asks an API server as whoever runs the command; needs the libraries of the extra `kubernetes`.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from aggregator.model.errors import MeshError
from aggregator.model.secret import Redacted
from config.reader import reader_rules

_ACCOUNT_OF: Final = "kubernetes.io/service-account.name"
_TOKEN_TYPE: Final = "kubernetes.io/service-account-token"  # noqa: S105 - the type, no token
_TOKEN_SUFFIX: Final = "-istio-remote-secret-token"  # noqa: S105 - Istio's name for the secret
_WAIT: Final = 10.0
_EVERY: Final = 0.25


class ClusterAccessError(MeshError):
    """The cluster cannot be reached, or refuses what is asked of it."""


class Reader:
    """The cluster of one context of a kubeconfig, and a service account in it."""

    def __init__(self, kubeconfig: str, context: str, namespace: str, account: str) -> None:
        """Raises ClusterAccessError if the kubeconfig cannot be used."""
        with _answered("the kubeconfig"):
            from kubernetes import client, config

            new_client: Any = config.new_client_from_config
            api = new_client(kubeconfig or None, context or None)
        api.configuration.retries = False
        self._client: Final[Any] = client
        self._core: Final[Any] = client.CoreV1Api(api)
        self._rbac: Final[Any] = client.RbacAuthorizationV1Api(api)
        self._configuration: Final[Any] = api.configuration
        self._namespace: Final = namespace
        self._account: Final = account

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._configuration.host)

    def own_ca(self) -> bytes:
        """The authorities that the kubeconfig trusts; empty for those of the machine."""
        path = self._configuration.ssl_ca_cert
        return Path(path).read_bytes() if path else b""

    def cluster_uid(self) -> str:
        """What names a cluster that nobody named: the UID of its kube-system namespace."""
        with _answered("Namespace kube-system"):
            return str(self._core.read_namespace("kube-system").metadata.uid)

    def ensure_account(self, *, create: bool) -> None:
        """See that the account is there; where it is not, make one that may read the cluster."""
        subject = f"ServiceAccount {self._namespace}/{self._account}"
        with _answered(subject, absent_is_error=not create):
            self._core.read_namespaced_service_account(self._account, self._namespace)
            return
        with _answered(f"creating {subject}"):
            self._create_account()

    def bound_token(self, seconds: int) -> Redacted:
        """A token that ends by itself."""
        body = {"spec": {"expirationSeconds": seconds}}
        with _answered(f"a token of ServiceAccount {self._namespace}/{self._account}"):
            answer = self._core.create_namespaced_service_account_token(
                self._account, self._namespace, body
            )
            return Redacted(str(answer.status.token).encode())

    def lasting_token(self, secret_name: str) -> tuple[Redacted, bytes]:
        """The token of the account's Secret, which is made where there is none, and the CA in it.

        Waits for the controller that fills it.
        """
        name = secret_name or self._find_token_secret() or self._create_token_secret()
        deadline = time.monotonic() + _WAIT
        while True:
            with _answered(f"Secret {self._namespace}/{name}"):
                secret = self._core.read_namespaced_secret(name, self._namespace)
            if not self._is_token_of_account(secret):
                message = (
                    f"Secret {self._namespace}/{name} is no token of ServiceAccount {self._account}"
                )
                raise ClusterAccessError(message)
            data = {key: base64.b64decode(text) for key, text in (secret.data or {}).items()}
            if data.get("token") and data.get("ca.crt"):
                return Redacted(data["token"]), data["ca.crt"]
            if time.monotonic() > deadline:
                message = (
                    f"nothing has put a token into Secret {self._namespace}/{name}; where no "
                    "controller does, ask for one that ends by itself with --token-duration"
                )
                raise ClusterAccessError(message)
            time.sleep(_EVERY)

    def _find_token_secret(self) -> str:
        with _answered(f"the secrets of namespace {self._namespace}"):
            found = self._core.list_namespaced_secret(
                self._namespace, field_selector=f"type={_TOKEN_TYPE}"
            )
        names = (each.metadata.name for each in found.items if self._is_token_of_account(each))
        return str(next(names, ""))

    def _is_token_of_account(self, secret: Any) -> bool:
        annotations = secret.metadata.annotations or {}
        return bool(secret.type == _TOKEN_TYPE and annotations.get(_ACCOUNT_OF) == self._account)

    def _create_token_secret(self) -> str:
        name = self._account + _TOKEN_SUFFIX
        body = {
            "metadata": {"name": name, "annotations": {_ACCOUNT_OF: self._account}},
            "type": _TOKEN_TYPE,
        }
        with _answered(f"creating Secret {self._namespace}/{name}"):
            self._core.create_namespaced_secret(self._namespace, body)
        return name

    def _create_account(self) -> None:
        role = f"{self._account}-{self._namespace}"
        subject = {
            "kind": "ServiceAccount",
            "name": self._account,
            "namespace": self._namespace,
        }
        reference = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        }
        named = {"metadata": {"name": role}}
        self._unless_there(self._core.create_namespace, {"metadata": {"name": self._namespace}})
        self._unless_there(self._rbac.create_cluster_role, {**named, "rules": reader_rules()})
        self._unless_there(
            self._rbac.create_cluster_role_binding,
            {**named, "roleRef": reference, "subjects": [subject]},
        )
        account = {"metadata": {"name": self._account}}
        self._core.create_namespaced_service_account(self._namespace, account)

    def _unless_there(self, create: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> None:
        try:
            create(body)
        except self._client.ApiException as error:
            if error.status != 409:
                raise


@contextmanager
def _answered(subject: str, *, absent_is_error: bool = True) -> Iterator[None]:
    """Map what the libraries raise; with `absent_is_error` false, a 404 ends the block silently."""
    try:
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        message = f"{error.name} is missing: install mesh-aggregator[kubernetes]"
        raise ClusterAccessError(message) from error
    try:
        yield
    except ApiException as error:
        if error.status == 404 and not absent_is_error:
            return
        message = f"{subject}: {error.status} {_reason(error)}"
        raise ClusterAccessError(message) from error
    except (ConfigException, HTTPError, OSError) as error:
        message = f"{subject}: {error}"
        raise ClusterAccessError(message) from error


def _reason(error: Any) -> str:
    """The server's own message where it sent one."""

    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
