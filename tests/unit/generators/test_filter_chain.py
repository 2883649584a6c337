"""Chains of one listener, kept apart."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.generators.filter_chain import Chain, ChainSet, build_listener_filters


def chain(*sni: str, subnets: tuple[str, ...] = (), cluster: str = "c") -> Chain:
    return Chain(filters=(), clusters=frozenset({cluster}), sni=sni, subnets=subnets)


def test_second_chain_loses_only_the_names_that_are_taken() -> None:
    """Envoy refuses the whole listener if two chains match the same server name."""
    found = ChainSet()

    assert found.add(chain("a", "b"), "first") == ""
    assert found.add(chain("b", "c"), "second") == "first"

    assert [each.sni for each in found.chains] == [("a", "b"), ("c",)]


def test_chain_with_nothing_left_is_dropped() -> None:
    """An empty match would take every connection."""
    found = ChainSet()
    found.add(chain("a"), "first")

    assert found.add(chain("A"), "second") == "first"

    assert len(found.chains) == 1


def test_chains_of_one_owner_may_overlap_silently() -> None:
    """The second of two rules for the same name can never hold, as in Istio, and harms nobody."""
    found = ChainSet()
    found.add(chain("a"), "one")

    assert found.add(chain("a"), "one") == ""


def test_same_range_written_in_two_ways_is_the_same() -> None:
    """Envoy compares ranges without their host bits."""
    found = ChainSet()
    found.add(chain(subnets=("10.1.2.3/8",)), "first")

    assert found.add(chain(subnets=("10.0.0.0/8",)), "second") == "first"


def test_name_is_free_again_at_another_range() -> None:
    """Two services with ranges of their own may have certificates for the same name."""
    found = ChainSet()
    found.add(chain("a", subnets=("10.0.0.0/8",)), "first")

    assert found.add(chain("a", subnets=("11.0.0.0/8",)), "second") == ""


def test_star_among_the_names_means_every_connection() -> None:
    """Envoy knows no server name ``*``."""
    found = ChainSet()
    found.add(chain("*", "a"), "first")

    assert found.chains[0].matches_all


names = st.lists(st.sampled_from(["a", "b", "*.c", "*"]), max_size=3)
ranges = st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.2.3.4"]), max_size=2)


@given(st.lists(st.tuples(names, ranges), max_size=6))
def test_no_two_chains_ever_match_the_same(chains: list[tuple[list[str], list[str]]]) -> None:
    """Whatever services and rules there are, Envoy can take the listener."""
    found = ChainSet()
    for index, (sni, subnets) in enumerate(chains):
        found.add(chain(*sni, subnets=tuple(subnets)), str(index))

    pairs = [
        (subnet, name)
        for each in found.chains
        for subnet in (each.subnets or ("",))
        for name in (each.sni or ("",))
    ]
    assert len(set(pairs)) == len(pairs)


def test_connections_are_inspected_only_where_names_decide() -> None:
    """Waiting for a client's first bytes breaks protocols in which the server begins."""
    assert not build_listener_filters([chain(subnets=("10.0.0.0/8",)), chain()])
    assert [each.name for each in build_listener_filters([chain(), chain("a")])] == [
        "envoy.filters.listener.tls_inspector"
    ]


def test_match_holds_names_and_ranges() -> None:
    """Both conditions reach Envoy."""
    match = chain("a", subnets=("10.1.0.0/16", "10.2.3.4")).build().filter_chain_match

    assert list(match.server_names) == ["a"]
    assert [(each.address_prefix, each.prefix_len.value) for each in match.prefix_ranges] == [
        ("10.1.0.0", 16),
        ("10.2.3.4", 32),
    ]
