"""`crds`: the definitions that make a Kubernetes API server keep traffic rules."""

from typing import Final

import click
import yaml

from config.crd import build_crd
from config.kind_table import kinds


class _Dumper(yaml.SafeDumper):
    """Writes out what occurs twice, and indents lists, as people write such files."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


@click.command("crds")
def _crds() -> None:
    """Print the CustomResourceDefinitions of all kinds, for `kubectl apply --server-side -f -`.

    A cluster that has Istio's needs none of these.
    """
    definitions = (build_crd(kind) for kind in kinds().values())
    click.echo(yaml.dump_all(definitions, Dumper=_Dumper, sort_keys=False, width=100), nl=False)


COMMAND: Final = _crds
