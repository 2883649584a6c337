"""A real Envoy takes what is generated and routes requests by it."""
