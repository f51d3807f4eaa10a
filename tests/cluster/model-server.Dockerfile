# The development stand-in for TensorFlow Serving, where its own image cannot be pulled. Never published, never in the chart.
ARG TRAINER_IMAGE=localhost/expansion-trainer:dev
FROM ${TRAINER_IMAGE}
USER 0
RUN printf '#!/bin/sh\nexec python -m expansion_development.model_server "$@"\n' >/usr/bin/tensorflow_model_server \
    && chmod 0755 /usr/bin/tensorflow_model_server
COPY development/expansion_development/__init__.py /opt/app/expansion_development/__init__.py
COPY development/expansion_development/model_server /opt/app/expansion_development/model_server
USER 65532:65532
ENTRYPOINT ["/usr/bin/tensorflow_model_server"]
