"""The test suites; CONTRIBUTING.md says which one to extend for which change."""
