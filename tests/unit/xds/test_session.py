"""The rules of order, of subscriptions and of isolation, without any transport."""

import math

import pytest

from aggregator.generators.spec import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST
from aggregator.model.errors import StreamError
from aggregator.push.known import Response
from aggregator.push.state import Cause
from aggregator.xds.cache import PlanCache
from aggregator.xds.message import Request
from tests.support.session import Client, Content, sent, sent_bodies


def booted(*, delta: bool = True, drain: float = 3.0) -> tuple[Content, Client]:
    """An Envoy with one cluster behind one route on one listener, all acknowledged."""
    content = Content()
    content.put(CLUSTER, "old", "old 1")
    content.put(ENDPOINT, "old", "endpoints 1")
    content.put(LISTENER, "in", "listener 1")
    content.put(ROUTE, "80", "to old", clusters=["old"])
    content.view.finish()
    client = Client(content, delta=delta, drain=drain)
    client.subscribe(CLUSTER)
    client.drain()
    client.subscribe(ENDPOINT, "old")
    client.drain()
    client.subscribe(LISTENER)
    client.drain()
    client.subscribe(ROUTE, "80")
    client.drain()
    return content, client


def only(responses: list[Response]) -> Response:
    """The one response there is."""
    assert len(responses) == 1
    return responses[0]


# Subscriptions


def test_wildcard_gets_everything_and_then_only_what_changes() -> None:
    """A delta client is not sent what it has."""
    content, client = booted()
    content.put(CLUSTER, "more", "more 1")
    client.change()
    assert sent(client.next()) == {"more": "more 1"}


def test_state_of_the_world_repeats_all_clusters() -> None:
    """On state of the world a cluster that a response lacks is removed by Envoy."""
    content, client = booted(delta=False)
    content.put(CLUSTER, "more", "more 1")
    client.change()
    assert sent_bodies(client.next()) == ["more 1", "old 1"]


def test_state_of_the_world_sends_single_assignments() -> None:
    """One endpoint's change must not cost the endpoints of the whole mesh."""
    content, client = booted(delta=False)
    content.put(CLUSTER, "more", "more 1")
    content.put(ENDPOINT, "more", "endpoints of more")
    client.change()
    client.drain()
    client.subscribe(ENDPOINT, "more")
    assert sent_bodies(client.next()) == ["endpoints of more"]
    content.put(ENDPOINT, "old", "endpoints 2")
    client.change()
    assert sent_bodies(client.next()) == ["endpoints 2"]


def test_nothing_is_sent_for_equal_content() -> None:
    """A rebuilt resource with the same bytes is no change."""
    content, client = booted()
    content.put(CLUSTER, "old", "old 1")
    client.change()
    assert client.next() is None


def test_unknown_name_is_answered() -> None:
    """A client that asked waits for an answer, though there is nothing."""
    _, client = booted()
    client.subscribe(ROUTE, "no such")
    assert sent(client.next()) == {"no such": None}


@pytest.mark.parametrize("delta", [True, False])
def test_missing_assignment_is_answered_with_an_empty_one(delta: bool) -> None:
    """Left out, Envoy's cluster would never be warm and its CDS never acknowledged."""
    _, client = booted(delta=delta)
    client.subscribe(ENDPOINT, "nowhere")
    response = client.next()
    assert response is not None
    assert b"nowhere" in response.payload
    assert [name for name, each in response.changes if each is not None] == ["nowhere"]


def test_unsubscribed_names_are_not_sent_again() -> None:
    """What a client gave up is not pushed, and is sent when it asks anew."""
    content, client = booted()
    client.unsubscribe(ENDPOINT, "old")
    content.put(ENDPOINT, "old", "endpoints 2")
    client.change()
    assert client.next() is None
    client.subscribe(ENDPOINT, "old")
    assert sent(client.next()) == {"old": "endpoints 2"}


def test_asking_again_is_answered_again() -> None:
    """A delta client that subscribes to what it was sent has lost it."""
    _, client = booted()
    client.subscribe(ENDPOINT, "old")
    assert sent(client.next()) == {"old": "endpoints 1"}


def test_reconnecting_delta_client_gets_only_what_differs() -> None:
    """After a reconnect the announced versions are believed, because they are content hashes."""
    content, _ = booted()
    versions = {
        name: each.version
        for name, each in content.view.snapshot(CLUSTER.type_url).resources.items()
    }
    content.put(CLUSTER, "more", "more 1")
    content.view.finish()
    again = Client(content)
    again.subscribe(CLUSTER, versions=versions)
    assert sent(only(again.drain())) == {"more": "more 1"}
    same = Client(content)
    versions = {
        name: each.version
        for name, each in content.view.snapshot(CLUSTER.type_url).resources.items()
    }
    same.subscribe(CLUSTER, versions=versions)
    assert same.drain() == []


def test_reconnecting_state_of_the_world_client_with_the_same_version_gets_nothing() -> None:
    """An equal version is an equal state: 500 reconnecting proxies cost nothing."""
    content, client = booted(delta=False)
    version = client.session.subscriptions[CLUSTER.type_url].version_acked
    again = Client(content, delta=False)
    again.subscribe(CLUSTER, version=version)
    assert again.drain() == []
    content.put(CLUSTER, "more", "more 1")
    again.change()
    assert sent_bodies(again.next()) == ["more 1", "old 1"]


def test_unknown_type_is_refused() -> None:
    """A typo in a type URL is told, not ignored."""
    _, client = booted()
    with pytest.raises(StreamError, match=r"no\.such\.Type"):
        client.session.receive(Request("no.such.Type", frozenset()), client.now)


def test_large_delta_responses_come_in_chunks() -> None:
    """One stalled client must not hold megabytes in the transport."""
    content = Content()
    for number in range(10):
        content.put(CLUSTER, f"c{number}", "x" * 1000)
    content.view.finish()
    client = Client(content, chunk=3500)
    client.subscribe(CLUSTER)
    responses = client.drain()
    assert [len(sent(each)) for each in responses] == [3, 3, 3, 1]
    assert len({each.nonce for each in responses}) == 4


def test_streams_in_the_same_state_share_the_very_same_bytes() -> None:
    """Serialising once per class of proxies, not per proxy, is what makes pushes cheap."""
    content = Content()
    content.put(CLUSTER, "old", "old 1")
    content.view.finish()
    cache = PlanCache()
    clients = [Client(content, cache=cache) for _ in range(3)]
    for client in clients:
        client.subscribe(CLUSTER)
    first = [client.drain()[0] for client in clients]
    assert len({id(each.payload) for each in first}) == 1
    content.put(CLUSTER, "more", "more 1")
    diff = content.view.finish()
    for client in clients:
        client.session.view_changed(diff, Cause(client.now))
    second = [client.drain()[0] for client in clients]
    assert len({id(each.payload) for each in second}) == 1


# Make, warm, switch, drain, break


@pytest.mark.parametrize("delta", [True, False])
def test_route_waits_until_its_new_cluster_is_warm(delta: bool) -> None:
    """A route to a cluster that is not warm answers 503."""
    content, client = booted(delta=delta)
    content.put(CLUSTER, "new", "new 1")
    content.put(ROUTE, "80", "to new", clusters=["new"])
    client.change()
    clusters = client.next()
    assert clusters is not None
    assert clusters.type_url == CLUSTER.type_url
    assert client.next() is None
    assert client.has(ROUTE) == {"80": "to old"}
    client.ack(clusters)
    route = client.next()
    assert route is not None
    assert route.type_url == ROUTE.type_url


def test_route_does_not_wait_for_ever() -> None:
    """A cluster that never warms, such as a DNS name that does not answer, must not hold a route
    for good.
    """
    content, client = booted()
    content.put(CLUSTER, "new", "new 1")
    content.put(ROUTE, "80", "to new", clusters=["new"])
    client.change()
    client.next()
    assert client.next() is None
    assert client.session.wake_at() == client.now + 15
    client.later(15)
    assert sent(client.next()) == {"80": "to new"}


def test_other_routes_do_not_wait() -> None:
    """Only what leads to the new cluster waits for it."""
    content, client = booted()
    content.put(ROUTE, "81", "to old too", clusters=["old"])
    client.change()
    client.subscribe(ROUTE, "81")
    client.drain()
    content.put(CLUSTER, "new", "new 1")
    content.put(ROUTE, "80", "to new", clusters=["new"])
    content.put(ROUTE, "81", "to old, changed", clusters=["old"])
    client.change()
    client.next()
    assert sent(client.next()) == {"81": "to old, changed"}


def test_booting_client_waits_for_nothing() -> None:
    """A client that has never acknowledged clusters has no traffic to protect."""
    content = Content()
    content.put(CLUSTER, "c", "c 1")
    content.put(ROUTE, "80", "to c", clusters=["c"])
    content.view.finish()
    client = Client(content)
    client.subscribe(CLUSTER)
    client.next()
    client.subscribe(ROUTE, "80")
    assert sent(client.next()) == {"80": "to c"}


@pytest.mark.parametrize("delta", [True, False])
def test_cluster_stays_until_its_route_is_switched(delta: bool) -> None:
    """Removing a cluster that a route still uses answers 503."""
    content, client = booted(delta=delta)
    content.put(CLUSTER, "new", "new 1")
    content.remove(CLUSTER, "old")
    content.put(ROUTE, "80", "to new", clusters=["new"])
    client.change()
    clusters = client.next()
    assert clusters is not None
    assert client.has(CLUSTER) == {"old": "old 1", "new": "new 1"}
    client.ack(clusters)
    route = client.next()
    assert route is not None
    assert client.next() is None, "the switch is not acknowledged yet"
    client.ack(route)
    client.drain()
    assert client.has(CLUSTER) == {"new": "new 1"}


def test_removed_cluster_keeps_its_endpoints_while_it_is_in_use() -> None:
    """An empty assignment would break the requests that still go there."""
    content, client = booted()
    content.remove(CLUSTER, "old")
    content.remove(ENDPOINT, "old")
    client.change()
    assert client.next() is None
    assert client.has(ENDPOINT) == {"old": "endpoints 1"}


@pytest.mark.parametrize("delta", [True, False])
def test_cluster_stays_while_a_dropped_listener_drains(delta: bool) -> None:
    """Connections on the old listener go on, with its old route, until the drain time is over."""
    content, client = booted(delta=delta)
    content.put(LISTENER, "tcp", "tcp to old", clusters=["old"])
    content.remove(ROUTE, "80")
    client.change()
    client.drain()
    client.unsubscribe(ROUTE, "80")
    content.remove(CLUSTER, "old")
    content.remove(LISTENER, "tcp")
    client.change()
    client.drain()
    assert client.has(CLUSTER) == {"old": "old 1"}
    assert client.session.wake_at() == client.now + 3
    client.later(3)
    client.drain()
    assert client.has(CLUSTER) == {}


@pytest.mark.parametrize("delta", [True, False])
def test_cluster_stays_while_the_client_keeps_the_route(delta: bool) -> None:
    """A route whose listener is gone is used until Envoy unsubscribes, at the end of the drain."""
    content, client = booted(delta=delta)
    content.remove(CLUSTER, "old")
    content.remove(LISTENER, "in")
    content.remove(ROUTE, "80")
    client.change()
    client.drain()
    client.later(3600)
    client.drain()
    assert client.has(CLUSTER) == {"old": "old 1"}
    assert client.has(ROUTE) == {"80": "to old"}
    client.unsubscribe(ROUTE, "80")
    client.drain()
    assert client.has(CLUSTER) == {}


def test_changed_cluster_takes_its_endpoints_along() -> None:
    """A changed cluster warms anew; a delta Envoy does not ask for the endpoints again."""
    content, client = booted()
    content.put(CLUSTER, "old", "old 2")
    client.change()
    assert [sent(each) for each in client.drain()] == [
        {"old": "old 2"},
        {"old": "endpoints 1"},
    ]


def test_listener_swap_goes_in_one_response() -> None:
    """Add first and then remove on the same port is a NACK for a duplicate address."""
    content, client = booted()
    content.remove(LISTENER, "in")
    content.put(LISTENER, "in2", "listener 2")
    client.change()
    assert sent(client.next()) == {"in": None, "in2": "listener 2"}


def test_streams_of_single_types_order_by_delay() -> None:
    """Without ADS nothing tells that a cluster is warm or unused: time must do."""
    content = Content()
    content.put(ROUTE, "80", "to old", clusters=["old"])
    content.put(CLUSTER, "old", "old 1")
    content.view.finish()
    routes = Client(content, aggregated=False)
    routes.subscribe(ROUTE, "80")
    routes.drain()
    clusters = Client(content, aggregated=False)
    clusters.subscribe(CLUSTER)
    clusters.drain()
    content.put(CLUSTER, "new", "new 1")
    content.remove(CLUSTER, "old")
    content.put(ROUTE, "80", "to new", clusters=["new"])
    diff = content.view.finish()
    for client in (routes, clusters):
        client.session.view_changed(diff, Cause(client.now))
    assert sent(only(clusters.drain())) == {"new": "new 1"}
    assert routes.drain() == []
    routes.later(1)
    assert sent(only(routes.drain())) == {"80": "to new"}
    clusters.later(3)
    assert sent(only(clusters.drain())) == {"old": None}


# Virtual hosts


def test_virtual_hosts_of_a_new_route_are_sent_again() -> None:
    """Envoy ignores virtual hosts of a route that it does not have, and does not ask for them
    later.
    """
    content, client = booted()
    content.put(VIRTUAL_HOST, "80/a", "a")
    content.put(VIRTUAL_HOST, "81/b", "b")
    content.put(ROUTE, "81", "second")
    client.change()
    client.subscribe(VIRTUAL_HOST)
    assert sent(only(client.drain())) == {"80/a": "a", "81/b": "b"}
    client.subscribe(ROUTE, "81")
    assert [sent(each) for each in client.drain()] == [{"81": "second"}, {"81/b": "b"}]


def test_virtual_hosts_of_a_vanished_route_stay_until_it_is_given_up() -> None:
    """A draining listener still routes by them."""
    content, client = booted()
    content.put(VIRTUAL_HOST, "80/a", "a", clusters=["old"])
    client.change()
    client.subscribe(VIRTUAL_HOST)
    client.drain()
    content.remove(ROUTE, "80")
    content.remove(VIRTUAL_HOST, "80/a")
    content.remove(CLUSTER, "old")
    client.change()
    client.drain()
    assert client.has(VIRTUAL_HOST) == {"80/a": "a"}
    client.unsubscribe(ROUTE, "80")
    client.drain()
    assert client.has(VIRTUAL_HOST) == {}
    assert client.has(CLUSTER) == {}


def test_virtual_hosts_of_a_route_that_comes_back_are_as_they_should_be() -> None:
    """What stayed for the draining listener must not outlive the route's return."""
    content, client = booted()
    content.put(VIRTUAL_HOST, "80/a", "a", clusters=["old"])
    client.change()
    client.subscribe(VIRTUAL_HOST)
    client.drain()
    content.remove(ROUTE, "80")
    content.remove(VIRTUAL_HOST, "80/a")
    client.change()
    client.drain()
    content.put(ROUTE, "80", "to old", clusters=["old"])
    content.put(VIRTUAL_HOST, "80/b", "b")
    client.change()
    client.drain()
    assert client.has(VIRTUAL_HOST) == {"80/b": "b"}


def test_removed_virtual_host_is_removed() -> None:
    """A host that went away must not be served any longer."""
    content, client = booted()
    content.put(VIRTUAL_HOST, "80/a", "a")
    client.change()
    client.subscribe(VIRTUAL_HOST)
    client.drain()
    content.remove(VIRTUAL_HOST, "80/a")
    client.change()
    assert sent(client.next()) == {"80/a": None}


# Rejections


def reject_until_settled(client: Client, bad: set[str], named: bool = False) -> int:
    """Answer as an Envoy that refuses the bodies in *bad*; returns the number of rejections."""
    rejections = 0
    for _ in range(100):
        response = client.next()
        if response is None:
            return rejections
        culprits = [name for name, each in response.changes if each and each.body.decode() in bad]
        if culprits:
            rejections += 1
            text = ", ".join(f"{name}: it is bad" for name in culprits) if named else "bad"
            client.nack(response, text)
        else:
            client.ack(response)
    pytest.fail("the rejections never end")


@pytest.mark.parametrize("delta", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_rejected_cluster_holds_back_none_of_the_others(delta: bool, named: bool) -> None:
    """One rule that Envoy refuses among a hundred good changes harms only itself."""
    content, client = booted(delta=delta)
    for number in range(100):
        content.put(CLUSTER, f"c{number}", f"good {number}")
    content.put(CLUSTER, "c33", "bad")
    content.put(CLUSTER, "c77", "bad too")
    client.change()
    reject_until_settled(client, {"bad", "bad too"}, named=named)
    have = client.has(CLUSTER)
    assert {f"c{n}" for n in range(100)} - {"c33", "c77"} <= have.keys()
    rejected = client.session.subscriptions[CLUSTER.type_url].isolation.rejected
    assert rejected.keys() == {"c33", "c77"}
    if not delta:
        assert {"c33", "c77"}.isdisjoint(have)


def test_named_culprits_cost_one_more_response() -> None:
    """Where Envoy names who is to blame, nothing is tried out."""
    content, client = booted()
    for number in range(8):
        content.put(CLUSTER, f"c{number}", "bad" if number == 3 else "good")
    client.change()
    assert reject_until_settled(client, {"bad"}, named=True) == 1


@pytest.mark.parametrize("delta", [True, False])
def test_last_accepted_version_keeps_being_served(delta: bool) -> None:
    """A change that Envoy refuses leaves what worked in place."""
    content, client = booted(delta=delta)
    content.put(CLUSTER, "old", "bad")
    content.put(CLUSTER, "other", "good")
    client.change()
    reject_until_settled(client, {"bad"})
    assert client.has(CLUSTER)["old"] == "old 1"
    assert client.has(CLUSTER)["other"] == "good"


@pytest.mark.parametrize("kind", [ROUTE, VIRTUAL_HOST, LISTENER])
def test_rejections_of_every_type_are_isolated(kind: object) -> None:
    """Routes and virtual hosts are not named by Envoy; two culprits are found by halves."""
    content, client = booted()
    for number in range(9):
        content.put(kind, f"80/{number}", "good")  # type: ignore[arg-type]  # one of the constants
    client.change()
    names = [f"80/{number}" for number in range(9)]
    client.subscribe(kind, *names)  # type: ignore[arg-type]  # one of the constants
    client.drain()
    for number in range(9):
        body = f"bad {number}" if number in (2, 7) else "better"
        content.put(kind, f"80/{number}", body)  # type: ignore[arg-type]  # one of the constants
    client.change()
    reject_until_settled(client, {"bad 2", "bad 7"})
    have = client.has(kind)  # type: ignore[arg-type]  # one of the constants
    assert [have[name] for name in names] == [
        "good" if number in (2, 7) else "better" for number in range(9)
    ]


def test_mended_resource_is_tried_again() -> None:
    """A new version of what was refused is a new chance."""
    content, client = booted()
    content.put(CLUSTER, "old", "bad")
    client.change()
    reject_until_settled(client, {"bad"})
    content.put(CLUSTER, "old", "mended")
    client.change()
    reject_until_settled(client, {"bad"})
    assert client.has(CLUSTER) == {"old": "mended"}
    assert client.session.subscriptions[CLUSTER.type_url].isolation.rejected == {}


def test_rejected_response_counts_as_unknown() -> None:
    """Envoy applies the good part and the removals of what it rejects: all of it is said again."""
    content, client = booted()
    content.put(CLUSTER, "spare", "spare")
    client.change()
    client.drain()
    content.put(CLUSTER, "a", "good")
    content.put(CLUSTER, "b", "bad")
    content.remove(CLUSTER, "spare")
    client.change()
    response = client.next()
    assert response is not None
    client.nack(response, "b: it is bad")
    assert sent(client.next()) == {"a": "good", "b": None, "spare": None}


def test_what_is_unknown_is_not_believed_after_a_reconnect() -> None:
    """A client that left between a rejection and its repair announces versions that it may not
    have.
    """
    content, client = booted()
    content.put(CLUSTER, "old", "old 2")
    content.put(CLUSTER, "b", "bad")
    client.change()
    response = client.next()
    assert response is not None
    client.nack(response, "no name")
    unknown = client.session.left_unknown()
    assert unknown == {CLUSTER.type_url: frozenset({"old", "b"})}
    again = Client(content)
    again.session.carried_over.update(unknown)
    versions = {
        name: each.version
        for name, each in content.view.snapshot(CLUSTER.type_url).resources.items()
    }
    again.subscribe(CLUSTER, versions=versions)
    assert sent(again.next()) == {"old": "old 2", "b": "bad"}


def test_withheld_answer_does_not_stop_the_search() -> None:
    """A group that Envoy neither takes nor refuses in time is warming: the search goes on."""
    content, client = booted()
    for number in range(4):
        content.put(CLUSTER, f"c{number}", "bad" if number == 3 else "good")
    client.change()
    response = client.next()
    assert response is not None
    client.nack(response, "no name")
    first_half = client.next()
    assert first_half is not None
    assert client.next() is None
    assert client.session.wake_at() == client.now + 1
    client.later(1)
    second_half = client.next()
    assert second_half is not None
    assert {name for name, _ in second_half.changes} == {"c2", "c3"}


def test_nothing_to_do_asks_for_no_wake() -> None:
    """An idle stream sleeps."""
    _, client = booted()
    assert client.next() is None
    assert client.session.wake_at() == math.inf


@pytest.mark.parametrize("delta", [True, False])
def test_answers_to_what_no_longer_counts_are_told(delta: bool) -> None:
    """Answers that come late or for nothing we sent change nothing, and are counted."""
    content, client = booted(delta=delta)
    content.put(CLUSTER, "more", "more 1")
    client.change()
    response = client.next()
    assert response is not None
    names = frozenset[str]()
    client.session.receive(Request(CLUSTER.type_url, names, "never sent"), client.now)
    client.session.receive(Request(CLUSTER.type_url, names, "never sent", "bad"), client.now)
    assert [each.short for each in client.session.take_expired()] == ["CDS", "CDS"]
    client.ack(response)
    client.ack(response)
    assert client.session.take_expired() == []
    assert client.has(CLUSTER) == {"old": "old 1", "more": "more 1"}


def test_acknowledged_response_counts_for_each_registry_that_caused_it() -> None:
    """Changes that a slow client gets in one response are counted from the first of them."""
    content, client = booted()
    client.session.take_converged()
    for number, registry in enumerate(("east", "west")):
        content.put(ENDPOINT, "old", f"endpoints {registry}")
        client.change(registry)
        client.later(2.0 + number)
    response = only(client.drain())
    assert sent(response) == {"old": "endpoints west"}

    (converged,) = client.session.take_converged()

    assert (converged.kind, converged.seconds) == (ENDPOINT, 5.0)
    assert converged.registries == {"east", "west"}

    content.put(ENDPOINT, "old", "endpoints later")
    client.change("south")
    client.drain()
    (converged,) = client.session.take_converged()
    assert converged.seconds == 0
    assert converged.registries == {"south"}
