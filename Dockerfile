FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# The environment is made with the base's pip, so that the result holds none of its own.
FROM base AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/mesh-aggregator
COPY requirements.lock ./
RUN python -m pip --python /opt/mesh-aggregator/bin/python install \
        --require-hashes --only-binary :all: --no-compile -r requirements.lock
COPY requirements-build.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY aggregator aggregator
COPY adapters adapters
COPY agent agent
COPY config config
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/mesh-aggregator/bin/python install \
        --no-deps --no-index --no-compile dist/*.whl \
    && python -m compileall -q -j 0 /opt/mesh-aggregator/lib

FROM base
RUN python -m pip uninstall --yes --quiet pip setuptools wheel \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/mesh-aggregator
COPY --from=build /opt/mesh-aggregator /opt/mesh-aggregator
ENV PATH=/opt/mesh-aggregator/bin:$PATH
WORKDIR /var/lib/mesh-aggregator
USER 10001:10001
# ADS, ADS over TLS, HTTP (readiness, metrics, debug views).
EXPOSE 15010 15012 15014
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["mesh-aggregator", "health"]
ENTRYPOINT ["mesh-aggregator"]
CMD ["serve", "-c", "/etc/mesh-aggregator/mesh-aggregator.yaml"]
