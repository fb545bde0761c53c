# One image for everything in compose.yaml: the services, and the nats-server of the version that the tests ran with.

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bus bus
COPY schemas schemas
RUN python -m venv /opt/hocket \
 && /opt/hocket/bin/pip install --no-cache-dir --constraint constraints.txt --upgrade pip \
 && /opt/hocket/bin/pip install --no-cache-dir --constraint constraints.txt \
      --build-constraint constraints.txt '.[cli,fast]'

FROM python:3.11-slim
# Named volumes take the owner of the directory that they are first mounted on.
RUN useradd --uid 1000 --create-home hocket \
 && install --directory --owner hocket --group hocket /srv/hocket /srv/log /srv/documents
COPY --from=build /opt/hocket /opt/hocket
COPY deploy/nats.conf /etc/hocket/nats.conf
COPY services /srv/hocket/services
ENV PATH=/opt/hocket/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /srv/hocket
USER hocket
CMD ["hocket", "--help"]
