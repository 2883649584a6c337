"""Writes type stubs for the Envoy messages of `xds-protos` and the etcd messages of `aetcd`.

Those packages have neither stubs nor a `py.typed` marker, so without these a misspelt field of a
cluster or listener is found at run time only. The stubs are made by mypy-protobuf from the
installed descriptors, so no `.proto` file is needed and they always fit the installed version.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor import FileDescriptor

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("xds-protos", "aetcd")
# What the output depends on, besides this script.
INPUTS = (*SOURCES, "protobuf", "mypy-protobuf")
# Folders that cannot be imported, because Python has a package of that name itself.
HIDDEN = frozenset({"test"})
# Parents that other distributions share: an `__init__.pyi` here would hide their stubs.
SHARED_PACKAGES = frozenset({PurePosixPath("google")})


def fingerprint() -> str:
    """Return a text that changes whenever the stubs would."""
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in INPUTS]
    script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return "\n".join([*versions, f"script sha256:{script}", ""])


def message_modules() -> list[str]:
    """Return the names of the generated modules, such as `envoy.config.cluster.v3.cluster_pb2`."""
    files = itertools.chain.from_iterable(importlib.metadata.files(name) or [] for name in SOURCES)
    paths = [PurePosixPath(str(file)) for file in files]
    return sorted(
        ".".join(path.with_suffix("").parts)
        for path in paths
        if path.match("*_pb2.py") and path.parts[0] not in HIDDEN
    )


def with_dependencies(roots: Iterable[FileDescriptor]) -> Iterator[FileDescriptor]:
    """Yield each file once, after those that it imports."""
    seen: set[str] = set()

    def visit(file: FileDescriptor) -> Iterator[FileDescriptor]:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            yield from visit(dependency)
        yield file

    for root in roots:
        yield from visit(root)


def build_request() -> plugin_pb2.CodeGeneratorRequest:
    """Ask for stubs of all of the distributions' files, as the protocol buffer compiler would.

    Files are named after the modules made of them, since those names decide where a stub belongs;
    `aetcd.rpc.kv_pb2` was made of a mere `kv.proto`.
    """
    roots: dict[str, FileDescriptor] = {
        module.replace(".", "/").removesuffix("_pb2") + ".proto": importlib.import_module(
            module
        ).DESCRIPTOR
        for module in message_modules()
    }
    renamed = {file.name: name for name, file in roots.items()}
    request = plugin_pb2.CodeGeneratorRequest(file_to_generate=sorted(roots))
    for file in with_dependencies(roots.values()):
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        proto.name = renamed.get(proto.name, proto.name)
        proto.dependency[:] = [renamed.get(name, name) for name in proto.dependency]
        request.proto_file.append(proto)
    return request


def run_plugin(
    name: str, parameter: str, request: plugin_pb2.CodeGeneratorRequest
) -> plugin_pb2.CodeGeneratorResponse:
    """Run one of mypy-protobuf's compiler plug-ins, which talk over standard input and output."""
    asked = plugin_pb2.CodeGeneratorRequest()
    asked.CopyFrom(request)
    asked.parameter = parameter
    plugin = Path(sys.executable).with_name(name)
    done = subprocess.run(
        [plugin], input=asked.SerializeToString(), stdout=subprocess.PIPE, check=True
    )
    response = plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
    if response.error:
        raise RuntimeError(f"{name}: {response.error}")
    return response


def write_stubs(request: plugin_pb2.CodeGeneratorRequest, target: Path) -> int:
    """Write the stubs and the package markers under *target*, and return how many there are."""
    messages = run_plugin("protoc-gen-mypy", "quiet,readable_stubs", request)
    with_services = {proto.name for proto in request.proto_file if proto.service}
    request.file_to_generate[:] = sorted(with_services.intersection(request.file_to_generate))
    services = run_plugin("protoc-gen-mypy_grpc", "quiet,readable_stubs,only_async", request)
    files = [*messages.file, *services.file]

    packages: set[PurePosixPath] = set()
    for file in files:
        path = PurePosixPath(file.name)
        packages.update(parent for parent in path.parents if parent.parts)
        stub = target / path
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(file.content, encoding="utf-8")
    for package in packages - SHARED_PACKAGES:
        (target / package / "__init__.pyi").touch()
    return len(files)


def generate(target: Path) -> int:
    """Replace *target* with freshly made stubs; a failure leaves the old ones."""
    with tempfile.TemporaryDirectory(prefix=".typings-", dir=target.parent) as made:
        fresh = Path(made) / "typings"
        fresh.mkdir()
        count = write_stubs(build_request(), fresh)
        (fresh / ".stamp").write_text(fingerprint(), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    return count


def main() -> int:
    """Generate the stubs unless those of the installed versions are there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--force", action="store_true", help="generate them again in any case")
    parser.add_argument("--output", type=Path, default=ROOT / "typings", help="default: typings/")
    options = parser.parse_args()

    stamp = options.output / ".stamp"
    if not options.force and stamp.exists() and stamp.read_text(encoding="utf-8") == fingerprint():
        print(f"The stubs in {options.output.name}/ are up to date.")
        return 0
    started = time.monotonic()
    count = generate(options.output)
    took = time.monotonic() - started
    print(f"Wrote {count} stubs to {options.output.name}/ in {took:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
