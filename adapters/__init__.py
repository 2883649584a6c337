"""Sources of services and rules, a package for each platform, found by what they declare."""
