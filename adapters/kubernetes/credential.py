"""What a request is authenticated with: TLS, and the words of a program that gives credentials.

Certificates and keys never touch the disk.
"""

import asyncio
import json
import os
import ssl
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from adapters.kubernetes.kubeconfig import Access, ExecCommand, is_visible
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError
from aggregator.model.secret import Redacted

EXEC_SECONDS: Final = 60.0
_EARLY: Final = 60.0
"""Seconds before its end at which a credential counts as too old."""


class Credential(Struct, frozen=True):
    """What a program gave; `expires` is seconds since the epoch, infinite where it does not say."""

    token: Redacted = Redacted()
    certificate: Redacted = Redacted()
    key: Redacted = Redacted()
    expires: float = float("inf")

    def fresh(self, now: float) -> bool:
        """Whether it can still be used."""
        return now < self.expires - _EARLY


def build_tls(access: Access, credential: Credential) -> ssl.SSLContext:
    """A context for one access. Blocks; raises AdapterRejectedError for unusable certificates."""
    try:
        context = ssl.create_default_context()
        if access.ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=_pem(access.ca))
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = access.certificate or credential.certificate
        if certificate:
            _load_chain(context, certificate, access.key or credential.key)
    except (ssl.SSLError, ValueError) as error:
        message = f"{access.server}: its certificates cannot be used: {_words(error)}"
        raise AdapterRejectedError(message) from error
    return context


def _pem(data: bytes) -> str | bytes:
    """Text is PEM, anything else DER."""
    return data.decode("ascii") if data.isascii() else data


def _load_chain(context: ssl.SSLContext, certificate: Redacted, key: Redacted) -> None:
    """OpenSSL's binding reads files only; this one is in memory, and gone when it is closed."""
    handle = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(certificate.reveal() + b"\n" + key.reveal())
        context.load_cert_chain(f"/proc/self/fd/{handle}", password=_refuse)
    finally:
        os.close(handle)


def _refuse() -> str:
    """Without this OpenSSL would ask for the passphrase on our terminal, and wait."""
    message = "the client's key is encrypted; it has to be there without a passphrase"
    raise ValueError(message)


def _words(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__


async def run_exec(command: ExecCommand, access: Access) -> Credential:
    """Ask the program for a credential.

    Raises AdapterUnavailableError if it fails or gives none, AdapterRejectedError if it cannot be
    run at all. What it printed is not told, because it may be the credential.
    """
    name = command.command
    info: dict[str, Any] = {"interactive": False}
    if command.cluster_info:
        info["cluster"] = {"server": access.server, "insecure-skip-tls-verify": access.insecure}
    request = {"apiVersion": command.api_version, "kind": "ExecCredential", "spec": info}
    environment = {
        **os.environ,
        **dict(command.env),
        "KUBERNETES_EXEC_INFO": json.dumps(request),
    }
    try:
        process = await asyncio.create_subprocess_exec(
            name,
            *command.args,
            cwd=command.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        message = f"{name!r}, which should give a credential, cannot be run: {error.strerror}"
        raise AdapterRejectedError(message) from error
    except ValueError as error:
        # A zero byte in an argument, or a variable's name that can be none.
        message = f"{name!r}, which should give a credential, cannot be run: {error}"
        raise AdapterRejectedError(message) from error
    try:
        async with asyncio.timeout(EXEC_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        message = f"{name!r} gave no credential within {EXEC_SECONDS:.0f} s"
        raise AdapterUnavailableError(message) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        message = f"{name!r}, which should give a credential, ended with {process.returncode}"
        raise AdapterUnavailableError(message)
    return decode_credential(output, name)


def decode_credential(output: bytes, name: str) -> Credential:
    """What a program printed. Raises AdapterUnavailableError if that is no credential."""
    try:
        status = json.loads(output)["status"]
        token = status.get("token") or ""
        certificate = status.get("clientCertificateData") or ""
        key = status.get("clientKeyData") or ""
        expires = status.get("expirationTimestamp")
        end = datetime.fromisoformat(expires).astimezone(UTC).timestamp() if expires else None
        found = Credential(
            Redacted(token.encode()),
            Redacted(certificate.encode()),
            Redacted(key.encode()),
            float("inf") if end is None else end,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{name!r} printed no ExecCredential"
        raise AdapterUnavailableError(message) from error
    if not is_visible(found.token.reveal()):
        message = f"{name!r} gave a token that is not of visible ASCII characters alone"
        raise AdapterUnavailableError(message)
    if not found.token and not (found.certificate and found.key):
        message = f"{name!r} gave neither a token nor a certificate with its key"
        raise AdapterUnavailableError(message)
    return found
