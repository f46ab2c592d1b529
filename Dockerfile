# The operator, and the emulated Vercel (`emulate`) to try it with. `make image` builds this and fills in the arguments.
# The base needs no more than python3 3.11 or newer with venv, and CA certificates. The default is a stage, because
# Dependabot finds base images in FROM only, not in ARG. (Podman 4 does not resolve it; `make image` names the base itself.)
ARG BASE_IMAGE=default-base

FROM docker.io/library/python:3.13.16-slim-trixie AS default-base

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
# pip and the build backend stay here; what is shipped is installed from outside into a second environment.
COPY requirements/build.txt requirements/runtime.txt ./
# A secret named pip.conf, if one is given, is pip's configuration (an index of your own), and stays out of the image.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv tools \
    && python3 -m venv --without-pip /opt/vercel-certificate-operator \
    && tools/bin/pip install --require-hashes --requirement build.txt \
    && tools/bin/pip --python /opt/vercel-certificate-operator install --no-compile \
       --require-hashes --requirement runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir wheels . \
    && tools/bin/pip --python /opt/vercel-certificate-operator install --no-compile \
       --no-index --no-deps --find-links wheels vercel-certificate-operator
# A read-only root can't keep what Python compiles, and a fresh container has kept nothing: it is done here, once.
# Bytecode that is never compared with its source is right, since no source changes here, and is read the fastest.
RUN PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash /opt/vercel-certificate-operator/lib

FROM ${BASE_IMAGE}
# The official Python image comes without the standard library's bytecode, and with a pip that nobody needs here.
# Where the base has the bytecode already, compileall leaves it.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip \
    && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash \
       "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/vercel-certificate-operator /opt/vercel-certificate-operator
ENV PATH=/opt/vercel-certificate-operator/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
# By number: the kubelet's runAsNonRoot can't tell who a name is, and the base needs no such user.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/vercel-certificate-operator/bin/vercel-certificate-operator"]
CMD ["run"]

# Last, so that a new revision rebuilds nothing above.
ARG BASE_IMAGE
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="vercel-certificate-operator" \
      org.opencontainers.image.description="A Kubernetes operator that manages TLS certificates at Vercel" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
