"""Host names in rules: completing short ones, wildcards, and which is more specific."""


def resolve_host(host: str, namespace: str, domain: str) -> str:
    """Complete a short name to ``<host>.<namespace>.svc.<domain>``.

    Names with a dot, and wildcards, stand as written.
    """
    if not host or "." in host or host == "*":
        return host
    return f"{host}.{namespace}.svc.{domain}"


def host_patterns(host: str) -> tuple[str, ...]:
    """What may name *host*, the most specific first: itself, ``*.b.c``, ``*.c``, ``*``."""
    patterns = [host]
    rest = host[2:] if host.startswith("*.") else host
    while "." in rest:
        rest = rest.partition(".")[2]
        patterns.append("*." + rest)
    if host != "*":
        patterns.append("*")
    return tuple(patterns)


def host_matches(pattern: str, host: str) -> bool:
    """Whether *pattern*, exact or wildcard, covers *host*.

    A wildcard covers narrower wildcards, and names at any depth below it.
    """
    if pattern in ("*", host):
        return True
    if not pattern.startswith("*"):
        return False
    return host.removeprefix("*").endswith(pattern[1:])


def hosts_overlap(one: str, other: str) -> bool:
    """Whether some name is covered by both."""
    return host_matches(one, other) or host_matches(other, one)
