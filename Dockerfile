# Serves an export: docker build -t musenet . && docker run -p 8000:8000 -v $PWD/exports/hotels:/export:ro \
#   -v musenet-history:/history -e MUSENET_TOKEN=0123456789abcdef musenet
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/musenet && /opt/musenet/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.11-slim
COPY --from=build /opt/musenet /opt/musenet
RUN useradd --system --uid 10001 --home-dir /history musenet && install -d -o musenet -g musenet /history
USER musenet
WORKDIR /history
EXPOSE 8000
ENV PATH=/opt/musenet/bin:$PATH STORE=/history/history.sqlite
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]
# Elsewhere than on its own machine, the service answers only those who bring $MUSENET_TOKEN.
CMD ["sh", "-c", "exec musenet serve /export --host 0.0.0.0 --port 8000 --store \"$STORE\""]
