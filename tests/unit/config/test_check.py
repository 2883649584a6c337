"""Tests of config.check."""

from collections.abc import Callable

import pytest

from aggregator.model.errors import ConfigError, Origin, Severity
from aggregator.model.service import Protocol
from config.check import (
    Report,
    check_duration,
    check_export_to,
    check_header_value,
    check_ip,
    check_labels,
    check_namespaced_host,
    check_port,
    check_subnet,
    check_unix_address,
    check_workload_labels,
    duplicates,
    host_fault,
    is_dns_label,
    is_header_name,
    is_partial_wildcard,
    pattern_fault,
    protocol_of,
)


def refused(check: Callable[[Report], object]) -> list[str]:
    """The paths at which a check finds errors."""
    report = Report(Origin("f.yaml", 1))
    check(report)
    return [each.path for each in report.problems if each.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("host", "sound"),
    [
        ("reviews", True),
        ("a-b.c1.example.com", True),
        ("a.example.com.", True),
        ("Reviews", True),
        ("a" * 63 + ".b", True),
        ("a" * 64 + ".b", False),
        (".".join(["abcdefg"] * 33), False),
        ("", False),
        ("a..b", False),
        ("-a.b", False),
        ("a_b", False),
        ("a b", False),
        ("10.0.0.1", False),
        ("*.example.com", False),
        ("a.*.com", False),
        ("a\n", False),
        ("é.example.com", False),
    ],
)
def test_host_names_are_judged_by_their_parts(host: str, sound: bool) -> None:
    """Envoy would refuse a whole response for one bad domain."""
    assert (host_fault(host) == "") is sound


@pytest.mark.parametrize(
    ("host", "sound"),
    [
        ("*", True),
        ("*.example.com", True),
        ("*-foo.example.com", True),
        ("*foo.example.com", True),
        ("a*.example.com", False),
        ("**.example.com", False),
        ("foo.*.com", False),
    ],
)
def test_a_wildcard_may_only_begin_a_host(host: str, sound: bool) -> None:
    """Istio's rule; anything else Envoy cannot match."""
    assert (host_fault(host, wildcard=True) == "") is sound


def test_a_wildcard_that_is_part_of_a_label_is_told_apart() -> None:
    """Gateways and sidecars take whole labels only."""
    assert is_partial_wildcard("*foo.com")
    assert not any(is_partial_wildcard(host) for host in ("*", "*.foo.com", "foo.com"))


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("10.0.0.1", True),
        ("10.0.0.0/8", True),
        ("10.1.2.3/8", True),
        ("0.0.0.0/0", True),
        ("2001:db8::/32", True),
        ("::1", True),
        ("10.0.0.0/33", False),
        ("10.0.0.0/", False),
        ("10.0.0.0/-1", False),
        ("10.0.0.0/255.0.0.0", False),
        ("2001:db8::/129", False),
        ("10.0.0/8", False),
        ("010.0.0.1", False),
        ("x/8", False),
        ("", False),
        ("10.0.0.0/" + "9" * 5000, False),
    ],
)
def test_ranges_are_addresses_with_a_length(text: str, sound: bool) -> None:
    """The bits beyond the length may be set, as in Istio."""
    assert refused(lambda report: check_subnet(report, "p", text)) == ([] if sound else ["p"])


def test_an_address_is_not_a_name() -> None:
    """Binding to a name is no option for Envoy."""
    assert refused(lambda report: check_ip(report, "p", "localhost")) == ["p"]
    assert refused(lambda report: check_ip(report, "p", "::1")) == []


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("/run/x.sock", True),
        ("@abstract", True),
        ("run/x", False),
        ("/x/", False),
        ("/" + "x" * 106, True),
        ("/" + "x" * 107, False),
        ("@" + "ü" * 54, False),
    ],
)
def test_sockets_are_absolute_paths_or_abstract(text: str, sound: bool) -> None:
    """A relative path would depend on where Envoy was started; a longer one Envoy rejects."""
    assert refused(lambda report: check_unix_address(report, "p", text)) == ([] if sound else ["p"])


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("shop/reviews.shop.mesh", True),
        ("*/*", True),
        ("./*.mesh", True),
        ("shop/reviews", False),
        ("reviews.mesh", False),
        ("/a.b", False),
        ("shop/", False),
        ("a.b/c.d", False),
        ("shop/*x.mesh", False),
        ("shop/10.0.0.1", False),
    ],
)
def test_hosts_of_sidecars_say_their_namespace(text: str, sound: bool) -> None:
    """``namespace/host``; both parts may be wild."""
    found = refused(
        lambda report: check_namespaced_host(report, "p", text, namespaces=("*", "."), ip=False)
    )

    assert (not found) is sound


def test_hosts_of_gateways_may_lack_the_namespace_or_be_addresses() -> None:
    """The older form of Gateway hosts."""
    for text in ("reviews.mesh", "10.0.0.1", "*", "shop/10.0.0.1"):
        assert not refused(
            lambda report, text=text: check_namespaced_host(  # type: ignore[misc]
                report, "p", text, namespaces=("*", "."), ip=True
            )
        )


def test_labels_follow_kubernetes_rules() -> None:
    """Labels that Kubernetes would refuse never match a pod."""
    good = {"app": "x", "a.b/c-d_e": "1.2", "empty": "", "A": "B_c"}
    bad = {"": "x", "a b": "x", "/a": "x", "-a": "x", "v": "a/b", "w": "-", "x" * 64: "y"}
    long_prefix = {".".join(["abcdefg"] * 40) + "/x": "y"}

    assert refused(lambda report: check_labels(report, "labels", good)) == []
    assert len(refused(lambda report: check_labels(report, "labels", bad))) == len(bad)
    assert len(refused(lambda report: check_labels(report, "labels", long_prefix))) == 1


def test_selectors_refuse_wildcards_and_warn_of_selecting_everything() -> None:
    """An empty selector is most often a mistake of indentation."""
    assert refused(lambda report: check_workload_labels(report, "p", {"a": "*"})) == ["p.a"]
    assert refused(lambda report: check_workload_labels(report, "p", {"": "x"})) == ["p"]

    report = Report(Origin())
    check_workload_labels(report, "p", {})
    assert [each.severity for each in report.problems] == [Severity.WARNING]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ((), []),
        (("*",), []),
        ((".", "other"), []),
        ((".", "shop"), ["p[1]"]),
        (("a", "a"), ["p[1]"]),
        (("*", "a"), ["p"]),
        (("a.b",), ["p[0]"]),
        (("~",), ["p[0]"]),
    ],
)
def test_export_lists_name_each_namespace_once(values: tuple[str, ...], wrong: list[str]) -> None:
    """``.`` is the object's own namespace, and counts as it."""
    assert refused(lambda report: check_export_to(report, "p", values, "shop")) == wrong


def test_services_alone_can_be_exported_to_no_one() -> None:
    """``~`` for a ServiceEntry, and then nothing beside it."""
    for values, wrong in ((("~",), []), (("~", "a"), ["p"])):
        found = refused(
            lambda report, values=values: check_export_to(  # type: ignore[misc]
                report, "p", values, "shop", none=True
            )
        )
        assert found == wrong


@pytest.mark.parametrize(("number", "sound"), [(0, 0), (1, 1), (65535, 1), (65536, 0), (-1, 0)])
def test_ports_are_16_bits_without_zero(number: int, sound: int) -> None:
    """0 would make Envoy choose a port of its own."""
    report = Report(Origin())

    assert check_port(report, "p", number) is bool(sound)
    assert len(report.problems) == 1 - sound


@pytest.mark.parametrize(
    ("seconds", "sound"),
    [(None, True), (0.001, True), (0.008, True), (1.5, True), (3600.0, True), (0.0, False),
     (0.0005, False), (1.0005, False)],
)  # fmt: skip
def test_durations_are_whole_milliseconds(seconds: float | None, sound: bool) -> None:
    """Istio's rule; Envoy rounds the rest away in silence."""
    assert (refused(lambda report: check_duration(report, "p", seconds)) == []) is sound


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        (".*", True),
        ("^/api/v[0-9]+$", True),
        ("", False),
        ("(", False),
        ("[a", False),
        ("(?=x)", False),
        (r"(a)\1", False),
        ("a" * 1024, True),
        ("a" * 1025, False),
        ("é" * 600, False),
    ],
)
def test_patterns_are_judged_as_envoy_judges_them(text: str, sound: bool) -> None:
    """RE2 has no look-ahead and no back-references; one bad pattern fails a whole response."""
    assert (pattern_fault(text) == "") is sound


@pytest.mark.parametrize(
    ("value", "sound"),
    [
        ("text", True),
        ("", True),
        ("100%%", True),
        ("%HOSTNAME%", True),
        ("a %REQ(x-id)% b", True),
        ("%REQ(x-id):10%", True),
        ('%DYNAMIC_METADATA(["a", "b"])%', True),
        ("a%%%HOSTNAME%", True),
        ("100%", False),
        ("abc%123", False),
        ("%START_TIME%%", False),
        ("%REQ(x", False),
        ("%REQ(x)", False),
        ("line\nbreak", False),
        ("\x00", False),
        ("tab\tis fine", True),
        ("%A(" * 3000, False),
        ("%A([])%" * 3000 + "%", False),
    ],
)
def test_header_values_have_complete_variables(value: str, sound: bool) -> None:
    """An unfinished variable fails the whole route in Envoy; no value takes long to judge."""
    assert (refused(lambda report: check_header_value(report, "p", value)) == []) is sound


def test_header_names_are_tokens() -> None:
    """RFC 9110."""
    assert all(is_header_name(name) for name in ("x-id", "X_Id", "a!#$%&'*+.^`|~"))
    assert not any(is_header_name(name) for name in ("", "a b", "a:b", "é", "a\n", ":path"))


def test_protocols_are_known_in_any_case_by_istios_names_alone() -> None:
    """appProtocol's spellings belong to Kubernetes' Service."""
    assert protocol_of("grpc-WEB") is Protocol.GRPC_WEB
    assert protocol_of("kubernetes.io/h2c") is None
    assert protocol_of("") is None


def test_labels_of_host_names_have_at_most_63_signs() -> None:
    """The bound is part of the name's syntax."""
    assert is_dns_label("a" * 63)
    assert not is_dns_label("a" * 64)


def test_duplicates_are_told_from_their_second_place_on() -> None:
    """The first one is the one that counts."""
    assert list(duplicates(["a", "b", "a", "a"])) == [(2, "a"), (3, "a")]


def test_a_report_raises_its_errors_at_their_lines_and_not_its_warnings() -> None:
    """Warnings keep nothing out."""
    report = Report(Origin("f.yaml", 1), "Thing shop/x")
    report.warn("a", "odd")
    report.raise_errors(lambda _path: Origin("f.yaml", 7))

    report.error("b", "wrong")
    with pytest.raises(ConfigError, match=r"^f\.yaml:7: Thing shop/x: b: wrong$"):
        report.raise_errors(lambda _path: Origin("f.yaml", 7))
