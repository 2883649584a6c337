"""Runs beside each Envoy: writes its bootstrap, supervises it and answers for its readiness."""
