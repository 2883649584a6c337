"""`create-remote-secret`: gives one cluster's control plane access to another cluster."""

from typing import Final
from urllib.parse import urlsplit

import click

from aggregator.cli.reader_account import Reader
from aggregator.cli.remote_secret import RemoteAccess, kubeconfig_text, secret_text
from aggregator.model.secret import Redacted
from aggregator.quantity import is_loopback
from config.check import is_dns_label
from config.duration import parse_duration

_SHORTEST: Final = 600
"""Seconds; API servers refuse tokens that end earlier."""


@click.command("create-remote-secret")
@click.option(
    "-c",
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False),
    help="The kubeconfig of the cluster to be read; as kubectl finds it unless given.",
)
@click.option("--context", default="", help="The context of it; the current one unless given.")
@click.option(
    "--name",
    default="",
    help="The cluster's id; the UID of its kube-system namespace unless given.",
)
@click.option(
    "-n",
    "--namespace",
    default="istio-system",
    show_default=True,
    help="The namespace of the service account, and of the Secret that is written.",
)
@click.option(
    "--service-account",
    default="istio-reader-service-account",
    show_default=True,
    help="Whose credential it is to be.",
)
@click.option(
    "--create-service-account",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=True,
    show_default=True,
    help="Whether the account is made where it is not there, with the right to read the cluster.",
)
@click.option(
    "--secret-name", default="", help="The account's Secret with a token, where it has several."
)
@click.option(
    "--token-duration",
    default="",
    help="Ask for a token that ends after this time, such as 24h, in place of the one in a Secret.",
)
@click.option(
    "--server",
    default="",
    help="The API server's address as the control plane reaches it; the kubeconfig's unless given.",
)
@click.option(
    "--tls-server-name", default="", help="The name in its certificate, where that is another one."
)
@click.option(
    "--auth-type",
    type=click.Choice(["bearer-token", "plugin"]),
    default="bearer-token",
    show_default=True,
    help="How the control plane authenticates; mesh-aggregator itself knows no plugins.",
)
@click.option("--auth-plugin-name", default="", help="The plugin of --auth-type=plugin.")
@click.option(
    "--auth-plugin-config",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="What the plugin is told; may be given several times.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["secret", "kubeconfig"]),
    default="secret",
    show_default=True,
    help="The Secret, or what is in it, for a folder of kubeconfigs on a machine.",
)
def _create_remote_secret(
    kubeconfig: str | None,
    context: str,
    name: str,
    namespace: str,
    service_account: str,
    create_service_account: bool,
    secret_name: str,
    token_duration: str,
    server: str,
    tls_server_name: str,
    auth_type: str,
    auth_plugin_name: str,
    auth_plugin_config: tuple[str, ...],
    output: str,
) -> None:
    """Print a Secret by which a control plane elsewhere can read a cluster.

    It is what Istio's tool of the same name prints, and is applied where the control plane runs:

    \b
      mesh-aggregator create-remote-secret --context=west --name=west |
          kubectl --context=east apply -f -
    """
    if name and not is_dns_label(name):
        message = f"expected a cluster id of letters, digits and dashes, found {name!r}"
        raise click.BadParameter(message, param_hint="--name")
    plugin = _plugin(auth_type, auth_plugin_name)
    plugin_config = _pairs(auth_plugin_config)
    seconds = _seconds(token_duration)
    reader = Reader(kubeconfig or "", context, namespace, service_account)
    cluster = name or reader.cluster_uid()
    reader.ensure_account(create=create_service_account)
    address = server or reader.server
    token, ca = Redacted(), reader.own_ca()
    if seconds:
        token = reader.bound_token(seconds)
    else:
        token, ca = reader.lasting_token(secret_name)
    if is_loopback(urlsplit(address).hostname or ""):
        click.echo(f"warn: only this machine reaches {address}; see --server", err=True)
    access = RemoteAccess(
        cluster=cluster,
        server=address,
        ca=ca,
        tls_server_name=tls_server_name,
        token=Redacted() if plugin else token,
        plugin=plugin,
        plugin_config=plugin_config,
    )
    if output == "kubeconfig":
        click.echo(kubeconfig_text(access), nl=False)
    else:
        click.echo(secret_text(access, namespace), nl=False)


def _plugin(auth_type: str, name: str) -> str:
    if (auth_type == "plugin") == bool(name):
        return name
    message = "--auth-type=plugin and --auth-plugin-name are given together or not at all"
    raise click.UsageError(message)


def _pairs(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for text in texts for part in text.split(",") if part]
    for key, equals, _ in pairs:
        if not key or not equals:
            message = f"expected KEY=VALUE, found {key!r}"
            raise click.BadParameter(message, param_hint="--auth-plugin-config")
    return tuple((key, value) for key, _, value in pairs)


def _seconds(text: str) -> int:
    if not text:
        return 0
    try:
        seconds = int(parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--token-duration") from error
    if seconds < _SHORTEST:
        message = f"expected at least 10m, found {text}"
        raise click.BadParameter(message, param_hint="--token-duration")
    return seconds


COMMAND: Final = _create_remote_secret
