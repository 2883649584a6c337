"""The manifests for Kubernetes fit the image, the settings and what is read."""

from typing import Any

from aggregator.settings import decode_settings
from config.reader import reader_rules
from tests.support.dockerfile import read_stages
from tests.support.manifests import FOLDER, listed_files, manifest, manifests, settings_text


def container() -> Any:
    """The only container of the pod."""
    (found,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def test_every_file_is_applied() -> None:
    """A file that is not listed would be forgotten by `kubectl apply -k`."""
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}

    assert set(listed_files()) == files
    assert len(listed_files()) == len(files)


def test_the_role_allows_what_reading_takes() -> None:
    """A kind that is read without permission would be missing from the mesh."""
    assert manifest("ClusterRole")["rules"] == reader_rules()


def test_secrets_are_read_in_one_namespace_only() -> None:
    """Credentials of others stay unread."""
    assert manifest("Role")["metadata"]["namespace"] == manifest("Namespace")["metadata"]["name"]
    assert manifest("Role")["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}
    ]


def test_bindings_name_roles_and_accounts_that_are_there() -> None:
    """The API server does not complain of a slip in a name."""
    account = manifest("ServiceAccount")["metadata"]
    for kind in ("ClusterRole", "Role"):
        binding = manifest(f"{kind}Binding")
        assert binding["roleRef"]["kind"] == kind
        assert binding["roleRef"]["name"] == manifest(kind)["metadata"]["name"]
        (subject,) = binding["subjects"]
        assert (subject["namespace"], subject["name"]) == (account["namespace"], account["name"])
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["name"]


def test_the_settings_are_sound_and_fit_the_ports() -> None:
    """The pod starts with them as they are, and answers where probes and proxies ask."""
    settings = decode_settings(settings_text().encode(), FOLDER / "mesh-aggregator.yaml")

    assert [each.type for each in settings.registries] == ["kubernetes", "remote_clusters"]
    assert settings.warnings == ()
    assert settings.listen.grpc == "0.0.0.0:15010"
    assert settings.listen.http == "0.0.0.0:15014"
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert ports == {"grpc-xds": 15010, "tls-xds": 15012, "http-metrics": 15014}
    (service,) = (each for each in manifests() if each["kind"] == "Service")
    named = {each["targetPort"]: each["port"] for each in service["spec"]["ports"]}
    assert named == ports


def test_tls_can_be_switched_on_by_its_line() -> None:
    """The line that is commented out is right, and its files are those that are mounted."""
    line = next(each for each in settings_text().splitlines() if "# grpc_tls:" in each)
    text = settings_text().replace(line, line.replace("# ", "", 1))

    settings = decode_settings(text.encode(), FOLDER / "mesh-aggregator.yaml")

    tls = settings.listen.grpc_tls
    assert tls is not None
    assert tls.address == "0.0.0.0:15012"
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    assert all(path.startswith(mounts["tls"] + "/") for path in (tls.cert, tls.key, tls.client_ca))


def test_the_settings_are_mounted_where_the_command_looks() -> None:
    """The ConfigMap's key is the file's name."""
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    (key,) = manifest("ConfigMap")["data"]

    assert mounts.keys() == volumes.keys()
    assert volumes["settings"]["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]
    assert container()["args"] == ["serve", "-c", f"{mounts['settings']}/{key}"]


def test_what_is_kept_over_restarts_has_a_place() -> None:
    """The root file system is read-only; a restarted container finds what the last one kept."""
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    variables = {each["name"]: each["value"] for each in container()["env"]}

    assert variables == {"STATE_DIRECTORY": mounts["state"]}


def test_the_pod_is_the_images_user_and_may_do_nothing_else() -> None:
    """What the namespace demands of its pods is what this one does."""
    (user,) = read_stages(FOLDER.parents[1] / "Dockerfile")[-1].all("USER")
    context = manifest("Deployment")["spec"]["template"]["spec"]["securityContext"]
    own = container()["securityContext"]

    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user.arguments
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_ask_what_they_should() -> None:
    """Being alive does not depend on registries, being ready does."""
    paths = {
        name: container()[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }

    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/ready",
    }


def test_selectors_select_the_pod() -> None:
    """The Service, the Deployment and the budget speak of the same pods."""
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifest("Deployment")["spec"]["selector"]["matchLabels"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("Service")["spec"]["selector"],
    ]

    assert all(selector.items() <= labels for selector in selectors)
    assert manifest("Deployment")["spec"]["replicas"] == 2
