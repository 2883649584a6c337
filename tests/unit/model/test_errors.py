"""How problems are shown."""

from aggregator.model.errors import Origin, Problem


def test_a_problem_is_one_line_whatever_it_quotes() -> None:
    """The name of a file can neither forge a line of the log nor colour somebody's terminal."""
    problem = Problem(Origin("a\n\x1b[31mb.yaml", 3), "spec.hosts[0]", "found 'bü\u2028ro\udcff'")

    assert str(problem) == (r"a\n\x1b[31mb.yaml:3: spec.hosts[0]: found 'bü\u2028ro\udcff'")
