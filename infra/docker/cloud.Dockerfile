# The cloud: TensorFlow, every codec, Prefect's worker, Dask. Build at the root of the repository:
#     docker build -f infra/docker/cloud.Dockerfile -t cloudedge-cloud .
FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/cloudedge && /opt/cloudedge/bin/pip install --no-cache-dir "uv>=0.8"
WORKDIR /src
COPY requirements/all.txt requirements/
RUN /opt/cloudedge/bin/uv pip install --python /opt/cloudedge/bin/python --compile-bytecode --require-hashes -r requirements/all.txt
COPY . .
RUN /opt/cloudedge/bin/uv pip install --python /opt/cloudedge/bin/python --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 cloudedge && mkdir -p /var/lib/cloudedge && chown cloudedge /var/lib/cloudedge
COPY --from=build /opt/cloudedge /opt/cloudedge
COPY deployments/prefect.yaml /etc/cloudedge/prefect.yaml
ENV PATH=/opt/cloudedge/bin:$PATH CLOUDEDGE_HOME=/var/lib/cloudedge DO_NOT_TRACK=1
USER 10001
WORKDIR /tmp
VOLUME /var/lib/cloudedge
# Its runs start here; `prefect-server` and `dask` are commands of the same image.
CMD ["prefect", "worker", "start", "--pool", "cloudedge", "--type", "process", "--install-policy", "never"]
