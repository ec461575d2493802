# Two stages: the first installs the dependencies, the second has them and the code, and no package index or compiler.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
COPY requirements/google.lock /
RUN python3 -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --require-hashes --no-deps -r /google.lock \
 && /venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv/lib

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin brainstem
COPY --from=build /venv /venv
WORKDIR /app
COPY apps apps
COPY web web
COPY service service
# Compiled here and not at each start, of which it would be two thirds; by content, so that two builds are alike.
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash service
ENV BACKENDS=google BIND_HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
# Cloud Run sets PORT. The server drains within the ten seconds that it has after SIGTERM.
CMD ["/venv/bin/python", "-m", "service", "serve"]
