"""Rules of a session that take several messages to show: late answers, many unanswered responses,
holds that begin anew, and what may take another's place.
"""

import math

import pytest

from aggregator.generators.spec import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST
from aggregator.xds.message import Request
from aggregator.xds.subscription import UNANSWERED
from tests.support.session import Client, Content, sent, sent_bodies


def booted(*, delta: bool = True, aggregated: bool = True) -> tuple[Content, Client]:
    """An Envoy with a cluster behind a route on a listener, and a virtual host where there may be
    one.
    """
    content = Content()
    content.put(CLUSTER, "old", "old 1")
    content.put(ENDPOINT, "old", "endpoints 1")
    content.put(LISTENER, "in", "listener 1")
    content.put(ROUTE, "80", "to old", clusters=["old"])
    if delta:
        content.put(VIRTUAL_HOST, "80/a", "a to old", clusters=["old"])
    content.view.finish()
    client = Client(content, delta=delta, aggregated=aggregated)
    for kind, names in ((CLUSTER, ()), (ENDPOINT, ("old",)), (LISTENER, ()), (ROUTE, ("80",))):
        client.subscribe(kind, *names)
        client.drain()
    if delta:
        client.subscribe(VIRTUAL_HOST)
        client.drain()
    return content, client


@pytest.mark.parametrize("delta", [True, False])
def test_cluster_stays_while_a_rejected_route_may_still_lead_there(delta: bool) -> None:
    """A route table that was refused leaves the old one in place, with the clusters of that."""
    content, client = booted(delta=delta)
    if delta:
        content.remove(VIRTUAL_HOST, "80/a")
        client.change()
        client.drain()
    content.put(CLUSTER, "new", "new 1")
    content.put(ROUTE, "80", "bad", clusters=["new"])
    content.remove(CLUSTER, "old")
    client.change()
    clusters = client.next()
    assert clusters is not None
    client.ack(clusters)
    route = client.next()
    assert route is not None
    assert route.type_url == ROUTE.type_url
    client.nack(route, "bad")
    again = client.next()
    assert again is not None
    assert again.type_url == ROUTE.type_url, "first of all it gets back what it had"
    client.ack(again)
    client.drain()
    assert client.has(CLUSTER).keys() == {"old", "new"}


def test_many_unanswered_responses_are_remembered_as_few() -> None:
    """A client may withhold its answers for hours, while everything changes a thousand times."""
    content, client = booted()
    responses = []
    for number in range(5 * UNANSWERED):
        content.put(CLUSTER, "old", f"old {number + 2}")
        client.change()
        while (response := client.next()) is not None:
            if response.type_url == CLUSTER.type_url:
                responses.append(response)
            else:
                client.ack(response)
    subscription = client.session.subscriptions[CLUSTER.type_url]
    assert len(subscription.pending) == UNANSWERED
    client.ack(responses[0])
    assert len(subscription.pending) == UNANSWERED, "which one that was is not known any more"
    client.ack(responses[-1])
    assert not subscription.pending
    assert not subscription.unacknowledged


def test_unanswered_responses_keep_the_last_accepted_version() -> None:
    """However many there were, what is refused is replaced by what was really taken."""
    content, client = booted()
    response = None
    for number in range(2 * UNANSWERED):
        content.put(CLUSTER, "old", f"bad {number}")
        client.change()
        while (following := client.next()) is not None:
            if following.type_url == CLUSTER.type_url:
                response = following
            else:
                client.ack(following)
    assert response is not None
    client.nack(response, "old: it is bad")
    assert sent(client.next()) == {"old": "old 1"}


def test_removed_listener_waits_for_what_may_take_its_place() -> None:
    """Removed at once, its port would be closed until the cluster behind the new one is warm."""
    content, client = booted()
    content.put(CLUSTER, "new", "new 1")
    content.put(LISTENER, "in2", "same port", clusters=["new"])
    content.remove(LISTENER, "in")
    client.change()
    clusters = client.next()
    assert clusters is not None
    assert client.next() is None
    client.ack(clusters)
    assert sent(client.next()) == {"in": None, "in2": "same port"}


def test_removals_are_in_the_first_chunk() -> None:
    """A new listener before the removal of the one at its address would be refused."""
    content = Content()
    content.put(LISTENER, "z", "at some address")
    content.view.finish()
    client = Client(content, chunk=1)
    client.subscribe(LISTENER)
    client.drain()
    content.put(LISTENER, "a", "more")
    content.put(LISTENER, "b", "at the same address")
    content.remove(LISTENER, "z")
    client.change()
    assert [sent(each) for each in client.drain()] == [
        {"z": None, "a": "more"},
        {"b": "at the same address"},
    ]


def test_removed_virtual_host_waits_for_another_of_its_route_alone() -> None:
    """A domain that moves between virtual hosts is served without a gap."""
    content, client = booted()
    content.put(VIRTUAL_HOST, "80/b", "b to old", clusters=["old"])
    content.put(ROUTE, "81", "other")
    content.put(VIRTUAL_HOST, "81/c", "c to old", clusters=["old"])
    client.change()
    client.drain()
    client.subscribe(ROUTE, "81")
    client.drain()
    content.put(CLUSTER, "new", "new 1")
    content.put(VIRTUAL_HOST, "80/n", "takes over from b", clusters=["new"])
    content.remove(VIRTUAL_HOST, "80/b")
    content.remove(VIRTUAL_HOST, "81/c")
    client.change()
    clusters = client.next()
    assert clusters is not None
    assert sent(client.next()) == {"81/c": None}
    assert client.next() is None
    client.ack(clusters)
    assert sent(client.next()) == {"80/b": None, "80/n": "takes over from b"}


def test_removed_listener_waits_no_longer_than_the_bound() -> None:
    """What may take its place may never be ready."""
    content, client = booted()
    content.put(CLUSTER, "new", "new 1")
    content.put(LISTENER, "in2", "same port", clusters=["new"])
    content.remove(LISTENER, "in")
    client.change()
    client.next()
    assert client.next() is None
    client.later(client.session.wake_at() - client.now)
    assert sent(client.next()) == {"in": None, "in2": "same port"}


def test_hold_begins_anew_each_time() -> None:
    """A cluster that came back and goes away again is waited for as the first time."""
    content = Content()
    content.put(CLUSTER, "old", "old 1")
    content.view.finish()
    client = Client(content, aggregated=False)
    client.subscribe(CLUSTER)
    client.drain()
    content.remove(CLUSTER, "old")
    client.change()
    assert client.next() is None
    content.put(CLUSTER, "old", "old 1")
    client.change()
    assert client.next() is None
    client.later(3600)
    content.remove(CLUSTER, "old")
    client.change()
    assert client.next() is None
    assert client.session.wake_at() == client.now + 3


def test_asked_for_name_is_answered_though_it_went_while_it_waited() -> None:
    """A client that asked must not wait for ever because its answer had to."""
    content, client = booted()
    content.put(CLUSTER, "new", "new 1")
    content.put(ROUTE, "81", "to new", clusters=["new"])
    client.change()
    clusters = client.next()
    assert clusters is not None
    client.subscribe(ROUTE, "81")
    assert client.next() is None
    content.remove(ROUTE, "81")
    client.change()
    assert sent(client.next()) == {"81": None}


def test_listener_that_is_refused_lets_its_old_cluster_go_in_the_end() -> None:
    """What a refused response would have dropped is not kept for good."""
    content, client = booted()
    content.put(LISTENER, "tcp", "tcp to old", clusters=["old"])
    content.remove(ROUTE, "80")
    content.remove(VIRTUAL_HOST, "80/a")
    client.change()
    client.drain()
    client.unsubscribe(ROUTE, "80")
    client.drain()
    content.put(LISTENER, "tcp", "bad")
    client.change()
    response = client.next()
    assert response is not None
    client.nack(response, "tcp: it is bad")
    client.drain()
    content.remove(LISTENER, "tcp")
    content.remove(CLUSTER, "old")
    client.change()
    client.drain()
    assert client.has(CLUSTER) == {"old": "old 1"}
    client.later(3)
    client.drain()
    assert client.has(CLUSTER) == {}
    assert client.session.wake_at() == math.inf


def test_client_that_came_back_keeps_clusters_for_what_may_be_draining() -> None:
    """What listeners it dropped just before the break of its stream, nobody can know."""
    content, client = booted()
    versions = {
        name: each.version
        for name, each in content.view.snapshot(CLUSTER.type_url).resources.items()
    }
    again = Client(content)
    again.subscribe(CLUSTER, versions=versions)
    again.drain()
    content.remove(CLUSTER, "old")
    again.change()
    assert again.next() is None
    again.later(3)
    assert sent(again.next()) == {"old": None}
    assert client.has(CLUSTER) == {"old": "old 1"}


def test_refused_version_leaves_what_a_client_announced() -> None:
    """A restarted server has not seen the last accepted version, but the client still has it."""
    content = Content()
    content.put(CLUSTER, "old", "bad")
    content.view.finish()
    client = Client(content)
    client.subscribe(CLUSTER, versions={"old": "as it was"})
    response = client.next()
    assert response is not None
    client.nack(response, "old: it is bad")
    assert client.next() is None, "above all no removal"
    content.put(CLUSTER, "old", "mended")
    client.change()
    assert sent(client.next()) == {"old": "mended"}


def test_complete_state_of_a_client_that_came_back_waits_for_nothing() -> None:
    """On state of the world what waits is left out, and so removed: it may well have it already."""
    content, _ = booted(delta=False)
    content.put(CLUSTER, "new", "new 1")
    content.put(LISTENER, "in2", "to new", clusters=["new"])
    content.view.finish()
    client = Client(content, delta=False)
    client.subscribe(CLUSTER, version="some older state")
    client.next()
    client.subscribe(LISTENER, version="some older state")
    assert sent_bodies(client.next()) == ["listener 1", "to new"]


def test_late_request_is_believed_in_what_it_gives_up() -> None:
    """What a client dropped and wants again is lost to it; its names alone do not show that."""
    content, client = booted(delta=False)
    content.put(ROUTE, "81", "other")
    client.change()
    client.subscribe(ROUTE, "81")
    client.drain()
    content.put(ROUTE, "80", "to old, changed", clusters=["old"])
    client.change()
    before = client.session.subscriptions[ROUTE.type_url].nonce_sent
    response = client.next()
    assert response is not None
    session = client.session
    session.receive(Request(ROUTE.type_url, frozenset({"80"}), before), client.now)
    assert client.next() is None
    both = frozenset({"80", "81"})
    session.receive(Request(ROUTE.type_url, both, response.nonce), client.now)
    assert sent_bodies(client.next()) == ["other"]


def test_changed_names_of_the_world_leave_the_wildcard() -> None:
    """The first name ends the meaning of no names for good."""
    content, client = booted(delta=False)
    content.put(CLUSTER, "more", "more 1")
    client.change()
    client.drain()
    session = client.session
    nonce = session.subscriptions[CLUSTER.type_url].nonce_sent
    session.receive(Request(CLUSTER.type_url, frozenset({"more"}), nonce), client.now)
    assert sent_bodies(client.next()) == ["more 1"]
    nonce = session.subscriptions[CLUSTER.type_url].nonce_sent
    session.receive(Request(CLUSTER.type_url, frozenset(), nonce), client.now)
    content.put(CLUSTER, "more", "more 2")
    client.change()
    assert client.next() is None
    session.receive(Request(CLUSTER.type_url, frozenset({"*"}), nonce), client.now)
    assert sent_bodies(client.next()) == ["more 2", "old 1"]


def test_new_listener_waits_on_a_stream_of_its_own_once_the_client_is_booted() -> None:
    """Without ADS the cluster behind it comes on another stream, perhaps a moment later."""
    content = Content()
    content.put(LISTENER, "in", "first", clusters=["old"])
    content.view.finish()
    client = Client(content, aggregated=False)
    client.subscribe(LISTENER)
    (response,) = client.drain()
    assert sent(response) == {"in": "first"}, "at boot there is no traffic to protect"
    content.put(LISTENER, "more", "second", clusters=["new"])
    client.change()
    assert client.next() is None
    client.later(1)
    assert sent(client.next()) == {"more": "second"}
