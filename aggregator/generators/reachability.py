"""Which endpoints a cluster gets, and in which order they are tried: the way from all endpoints of
a service to the groups of one assignment. Knows no Envoy message.
"""

from collections.abc import Sequence

from aggregator.generators.cluster_local import keep_local
from aggregator.generators.load_assignment import endpoints_of
from aggregator.generators.locality import Group, group_endpoints, resolve_preference
from aggregator.generators.network import reach
from aggregator.generators.registry_share import share
from aggregator.generators.spec import View
from aggregator.generators.target import Target
from aggregator.model.service import Endpoint, Port


def build_groups(view: View, target: Target, serving: Sequence[Endpoint]) -> list[Group]:
    """The groups of *serving* for a cluster, with priorities from 0 on without gaps.

    What registries are to take over from others comes behind all places of these.
    """
    service = target.service
    preference = resolve_preference(view, service, target.policy)
    endpoints = keep_local(view, service, endpoints_of(serving, target.port, target.subset))
    groups: list[Group] = []
    for tier in share(view.merge_policy(service.key), endpoints):
        reached = reach(view, service, tier, target.port)
        if groups:
            reached = _not_in(groups, reached, target.port)
        first = max((group.priority for group in groups), default=-1) + 1
        for group in group_endpoints(view, reached, preference):
            group.priority += first
            groups.append(group)
    return groups


def _not_in(groups: Sequence[Group], endpoints: list[Endpoint], port: Port) -> list[Endpoint]:
    """Those that are not yet there: two registries may be behind one gateway."""
    known = {(each.address, each.port_number(port)) for group in groups for each in group.endpoints}
    return [each for each in endpoints if (each.address, each.port_number(port)) not in known]
