# The three images of the project: docker build --target operator|model-sync|trainer .
#
#   PYTHON_IMAGE          any image with Python 3.11, pip and venv
#   TRAINER_REQUIREMENTS  trainer.txt for CPUs, trainer-gpu.txt for NVIDIA GPUs
#
# All of them run as 65532 with a read-only root file system: every path they write to comes from an argument or a variable.
# Only plain Dockerfile instructions, so that the classic builder and BuildKit give the same images.
ARG PYTHON_IMAGE=python:3.11-slim

# USER is what getpass answers with: no /etc/passwd knows the user, whichever a cluster gives us.
FROM ${PYTHON_IMAGE} AS base
ENV USER=expansion \
    LANG=C.UTF-8 \
    TZ=UTC \
    PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# Dependencies come from the locks and nothing else: a package that is not in a lock, or has another digest, stops the build.
# pip stays outside of the environment that it fills, so that no image carries one there.
FROM base AS builder
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/venv

# What every image carries: the contract, the way to storage, and the name and version that a report tells (importlib.metadata).
FROM base AS foundation
COPY pyproject.toml /build/pyproject.toml
RUN python3 -c "import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path('/build/pyproject.toml').read_text())['project']; \
folder = pathlib.Path('/opt/app', project['name'].replace('-', '_') + '-' + project['version'] + '.dist-info'); \
folder.mkdir(parents=True); \
(folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'.format(**project))"
COPY trainer/expansion_contract /opt/app/expansion_contract
COPY trainer/expansion_storage /opt/app/expansion_storage

FROM builder AS operator-build
COPY requirements/operator.txt /build/requirements.txt
RUN python3 -m pip --python /opt/venv/bin/python install --require-hashes --no-deps --only-binary :all: -r /build/requirements.txt \
    && chmod -R a+rX /opt/venv
COPY --from=foundation /opt/app /opt/app
COPY operator/expansion_operator /opt/app/expansion_operator
RUN chmod -R a+rX /opt/app && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/app

FROM base AS operator
COPY --from=operator-build /opt/venv /opt/venv
COPY --from=operator-build /opt/app /opt/app
USER 65532:65532
WORKDIR /opt/app
ENTRYPOINT ["python", "-m", "expansion_operator"]
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="classifier-expansion operator" \
      org.opencontainers.image.description="Watches ClassifierExpansion resources and makes them true" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

FROM builder AS model-sync-build
COPY requirements/model-sync.txt /build/requirements.txt
RUN python3 -m pip --python /opt/venv/bin/python install --require-hashes --no-deps --only-binary :all: -r /build/requirements.txt \
    && chmod -R a+rX /opt/venv
COPY --from=foundation /opt/app /opt/app
COPY operator/model_sync /opt/app/model_sync
RUN chmod -R a+rX /opt/app && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/app

FROM base AS model-sync
COPY --from=model-sync-build /opt/venv /opt/venv
COPY --from=model-sync-build /opt/app /opt/app
USER 65532:65532
WORKDIR /opt/app
ENTRYPOINT ["python", "-m", "model_sync"]
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="classifier-expansion model-sync" \
      org.opencontainers.image.description="Brings verified models to the model server beside it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# Last, because the classic builder makes every stage above the one asked for, and this one is large.
FROM builder AS trainer-build
ARG TRAINER_REQUIREMENTS=trainer.txt
# 290 MB of C++ headers serve nobody at run time.
COPY requirements/${TRAINER_REQUIREMENTS} /build/requirements.txt
RUN python3 -m pip --python /opt/venv/bin/python install --require-hashes --no-deps --only-binary :all: -r /build/requirements.txt \
    && rm -r /opt/venv/lib/python3*/site-packages/tensorflow/include \
    && chmod -R a+rX /opt/venv
COPY --from=foundation /opt/app /opt/app
COPY trainer/expansion_trainer /opt/app/expansion_trainer
RUN chmod -R a+rX /opt/app && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/app

FROM base AS trainer
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=trainer-build /opt/venv /opt/venv
COPY --from=trainer-build /opt/app /opt/app
USER 65532:65532
WORKDIR /opt/app
ENTRYPOINT ["python", "-m", "expansion_trainer"]
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="classifier-expansion trainer" \
      org.opencontainers.image.description="Grows an image classifier by new categories" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
