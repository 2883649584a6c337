"""The command line as a whole: what it finds, how it ends, and that nobody sees a traceback."""

from pathlib import Path

import click
import pytest

from aggregator.cli import commands
from aggregator.cli.main import cli, main


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_every_module_of_the_folder_is_a_command_of_its_name() -> None:
    """A command is added by adding a module."""
    context = click.Context(cli)
    names = cli.list_commands(context)

    assert {"serve", "health", "version", "schema", "check", "validate"} <= set(names)
    for name in names:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help
    modules = {path.stem for path in Path(commands.__path__[0]).glob("[!_]*.py")}
    assert {module.replace("_", "-") for module in modules} == set(names)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Help works even though commands are imported late."""
    assert run("--help") == 0
    assert "serve" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve"], "give a settings file with -c FILE, or a folder"),
        (["serve", "-c", "a", "--config-dir", "b"], "not both"),
        (["serve", "-c", "/absent/x.yaml"], "/absent/x.yaml: cannot be read: No such file"),
        (["serve", "--config-dir", "/absent"], "/absent: does not exist"),
        (["serve", "--config-dir", "/", "--grpc-address", "15010"], "expected host:port"),
        (["surve"], "No such command 'surve'"),
        (["check"], "Missing option '-c'"),
    ],
)
def test_wrong_usage_is_one_clear_message_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Whoever types it wrong is told what to type; scripts can tell it from a failure."""
    assert run(*arguments) == 2

    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_every_problem_of_a_settings_file_is_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The lines are in the form that editors jump to."""
    file = tmp_path / "mesh.yaml"
    file.write_text("registries: []\nlissten: {}\n")

    assert run("serve", "-c", str(file)) == 2

    assert capsys.readouterr().err.splitlines() == [
        f"mesh-aggregator: {file}:1: registries: expected at least 1 in the list",
        f"mesh-aggregator: {file}:2: lissten: unknown field 'lissten'; did you mean 'listen'?",
    ]


def test_version_can_be_used_in_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """One word with --short, the libraries that shape what is sent without."""
    assert run("version", "--short") == 0
    short = capsys.readouterr().out.strip()
    assert run("version") == 0

    assert short.count(".") == 2
    assert f"mesh-aggregator {short}\n" in capsys.readouterr().out


def test_health_fails_where_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """A container without its daemon is unhealthy, and says where it asked."""
    assert run("health", "--http-address", "127.0.0.1:1") == 1
    assert "http://127.0.0.1:1/ready: " in capsys.readouterr().err


@pytest.mark.parametrize("address", ["localhost:http", "a b:1", "x" * 70 + ".mesh:1", "..:1"])
def test_health_fails_for_an_address_that_is_none(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    """A typing error in HEALTHCHECK is told in one line."""
    assert run("health", "--http-address", address) == 1
    assert capsys.readouterr().err.startswith(f"http://{address}/ready: ")


def test_check_shows_what_a_settings_file_means(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Piped, the table is plain lines, of which the first names the columns."""
    file = tmp_path / "mesh.yaml"
    file.write_text("registries: [{name: vms, type: files, path: x, namespace: shop}]\n")

    assert run("check", "-c", str(file)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "registry\ttype\treadiness\tnamespace",
        "vms\tfiles\trequired\tshop",
    ]


def test_check_fails_with_1_for_a_wrong_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A pipeline stops before the file is rolled out."""
    file = tmp_path / "mesh.yaml"
    file.write_text("registries: [{name: vms, type: filez, path: x}]\n")

    assert run("check", "-c", str(file)) == 1
    assert f"error: {file}:1: registries[0].type: unknown registry type 'filez'" in (
        capsys.readouterr().err
    )
