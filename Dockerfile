# An image that serves a run: `docker build -t recsys .`, then
# `docker run -p 8080:8080 -v RUN:/run-folder -v store:/store recsys`. See docs/serving.md.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY recsys recsys
COPY pipelines pipelines
COPY serving serving
RUN python -m venv /opt/recsys \
    && /opt/recsys/bin/pip install --no-cache-dir -c constraints.txt '.[cpu,postgres,otel]'

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /store --create-home recsys
COPY --from=build /opt/recsys /opt/recsys
ENV PATH=/opt/recsys/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    RECSYS_STORE_URL=sqlite:////store/events.db
USER recsys
EXPOSE 8080
VOLUME /store
# SIGTERM drains: not ready, then what is in flight ends, then exit code 0 (give it 20 seconds: `--stop-timeout 20`).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/live', timeout=2)"]
ENTRYPOINT ["recsys", "serve", "/run-folder", "--host", "0.0.0.0"]
