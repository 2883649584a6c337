"""Tests of single modules, without sockets and without patching the project's own code."""
