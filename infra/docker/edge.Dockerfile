# An edge site: no TensorFlow. It only dials out, to the store. Build at the root of the repository:
#     docker build -f infra/docker/edge.Dockerfile -t cloudedge-edge .
FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/cloudedge && /opt/cloudedge/bin/pip install --no-cache-dir "uv>=0.8" "hatchling>=1.27"
WORKDIR /src
COPY requirements/edge.txt requirements/
RUN /opt/cloudedge/bin/uv pip install --python /opt/cloudedge/bin/python --compile-bytecode --require-hashes -r requirements/edge.txt
COPY . .
RUN /opt/cloudedge/bin/uv pip install --python /opt/cloudedge/bin/python --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 cloudedge && mkdir -p /var/lib/cloudedge && chown cloudedge /var/lib/cloudedge
COPY --from=build /opt/cloudedge /opt/cloudedge
ENV PATH=/opt/cloudedge/bin:$PATH CLOUDEDGE_HOME=/var/lib/cloudedge CLOUDEDGE_SITE="" DO_NOT_TRACK=1
USER 10001
WORKDIR /tmp
# Keys, caches and shards that stay: what makes the site this site.
VOLUME /var/lib/cloudedge
CMD ["sh", "-c", "exec cloudedge site work \"$CLOUDEDGE_SITE\""]
