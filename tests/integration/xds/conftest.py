"""What holds for all tests of the xDS server."""

import grpc.aio

# gRPC stops its thread when the last of its objects is collected, and waits for that. With one that
# stays, no test's event loop is kept waiting by what an earlier test left to the collector.
grpc.aio.init_grpc_aio()
