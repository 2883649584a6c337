"""Shows the main job on this machine: a folder of services and rules drives a real Envoy."""
