"""The xDS server over real gRPC."""
