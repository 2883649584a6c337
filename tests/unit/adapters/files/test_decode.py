"""What one file gives, and what is said of a broken one."""

from msgspec.structs import replace

from adapters.files.decode import decode_file
from aggregator.folder.reader import FileContent
from aggregator.model.errors import Severity
from aggregator.model.registry import Content, RegistryContext, ServiceItem

CONTEXT = RegistryContext(name="vms", cluster_id="vms", namespace="shop")

TERSE = """\
services:
- host: reviews.shop.mesh
  ports: [{name: http, number: 9080, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews.shop.mesh
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: shop}
spec:
  ports: [{name: http, port: 80}]
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ratings-x, namespace: shop, labels: {kubernetes.io/service-name: ratings}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.2]}]
"""


def decode(*documents: str, context: RegistryContext = CONTEXT) -> FileContent:
    """Decode documents as one file."""
    return decode_file("---\n".join(documents).encode(), "shop/all.yaml", context)


def test_all_forms_may_share_a_file() -> None:
    """People keep what belongs together in one file."""
    content = decode(TERSE, RULE, SERVICE, SLICE)

    assert content.problems == ()
    assert list(content.items[Content.SERVICES]) == [
        "service shop/reviews.shop.mesh",
        "Service shop/ratings",
        "EndpointSlice shop/ratings-x",
    ]
    assert list(content.items[Content.RULES]) == ["DestinationRule shop/reviews"]


def test_a_list_is_taken_apart() -> None:
    """What people save from a cluster is a List."""
    text = b'{"kind": "List", "items": [{"apiVersion": "v1", "kind": "Service", "metadata": '
    text += b'{"name": "a", "namespace": "b"}, "spec": {"ports": [{"port": 80}]}}]}'
    content = decode_file(text, "all.json", CONTEXT)

    assert list(content.items[Content.SERVICES]) == ["Service b/a"]


def test_one_error_breaks_the_whole_file() -> None:
    """Services without the rules beside them may be worse than yesterday's of both."""
    content = decode(TERSE, RULE.replace("host: reviews", "hots: reviews"), SERVICE)

    assert content.broken
    assert content.items == {}


def test_errors_say_where_and_what_was_expected() -> None:
    """Whoever broke the file finds the place."""
    content = decode(TERSE, RULE.replace("host: reviews", "hots: reviews"))

    texts = [str(problem) for problem in content.problems]
    assert any(text.startswith("shop/all.yaml:10: ") and "spec.hots" in text for text in texts)


def test_all_errors_of_a_file_are_found_at_once() -> None:
    """Mending one error at a time wastes people's evenings."""
    bad = RULE.replace("host: reviews.shop.mesh", "bogus: 1")
    content = decode(TERSE.replace("9080", "99999"), bad)

    assert {problem.origin.line for problem in content.problems} >= {3, 10}


def test_the_same_object_twice_in_a_file_is_an_error() -> None:
    """One of the two would be lost without a word."""
    content = decode(RULE, TERSE, RULE)

    (problem,) = content.problems
    assert problem.origin.line == 12
    assert "DestinationRule shop/reviews is in this file already, at line 1" in problem.message
    assert decode(TERSE, TERSE).broken


def test_warnings_do_not_break_a_file() -> None:
    """Folders of manifests have much in them that is not for us."""
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    content = decode(TERSE, other)

    assert len(content.items[Content.SERVICES]) == 1
    assert [problem.severity for problem in content.problems] == [Severity.WARNING]


def test_rules_are_left_out_where_they_are_not_wanted() -> None:
    """A registry that is trusted with endpoints only must not route traffic."""
    content = decode(TERSE, RULE, context=replace(CONTEXT, rules=False))

    assert len(content.items[Content.SERVICES]) == 1
    assert content.items[Content.RULES] == {}


def test_text_that_is_no_text_is_a_problem() -> None:
    """Binary files get into folders."""
    for text in (b"\xff\xfe\x00", b"services: [", b"\x00", b"- just\n- a list\n", b"{"):
        content = decode_file(text, "x.yaml", CONTEXT)

        assert content.broken, text
        assert content.problems[0].origin.source == "x.yaml"


def test_an_empty_file_gives_nothing_and_is_fine() -> None:
    """Comments alone are how people switch things off."""
    for text in (b"", b"# nothing\n", b"---\n---\n"):
        content = decode_file(text, "x.yaml", CONTEXT)

        assert not content.broken
        assert content.items[Content.SERVICES] == {}


def test_defaults_come_from_the_registry() -> None:
    """People with one data centre write its name once."""
    context = replace(CONTEXT, network="net1", locality="eu/eu-1", protocol="HTTP")
    plain = TERSE.replace("name: http, ", "").replace(", protocol: HTTP", "")
    (item,) = decode(plain, context=context).items[Content.SERVICES].values()

    assert isinstance(item, ServiceItem)
    assert item.service is not None
    assert item.service.ports[0].protocol == "HTTP"
    assert (item.endpoints[0].network, str(item.endpoints[0].locality)) == ("net1", "eu/eu-1")


def test_a_file_full_of_mistakes_tells_the_first_of_them() -> None:
    """The log of the daemon stays readable, and its memory small."""
    wrong = "\n---\n".join(
        RULE.replace("name: reviews", f"name: r{n}").replace("  host:", "  hots:")
        for n in range(3000)
    )

    broken = decode_file(wrong.encode(), "f.yaml", CONTEXT)

    assert broken.broken
    assert len(broken.problems) == 101
    assert "only the first 100 problems" in broken.problems[-1].message


def test_a_file_full_of_warnings_tells_the_first_of_them() -> None:
    """They are logged too; the objects are taken all the same."""
    odd = "\n---\n".join(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}}}" for n in range(3000)
    )

    content = decode_file(odd.encode(), "f.yaml", CONTEXT)

    assert not content.broken
    assert len(content.problems) == 101
    assert content.problems[-1].severity is Severity.WARNING
