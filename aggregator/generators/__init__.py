"""Pure functions from the world, as a view sees it, to Envoy's resources."""
