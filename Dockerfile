# heartwatch as an image: the program, its sample data and nothing else, as a user of its own.
#
#     docker build -t heartwatch . && docker run --rm heartwatch demo 2
#
# `make up` starts it with mosquitto, InfluxDB and Grafana (deploy/compose/compose.yaml).

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential cmake make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY benches benches
COPY crates crates
COPY src src
COPY fixtures fixtures
RUN cargo build --profile dist --locked --bin heartwatch \
 && install -D -m 755 target/dist/heartwatch /out/heartwatch

FROM debian:12.12-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/heartwatch --create-home --shell /usr/sbin/nologin heartwatch
COPY --from=build /out/heartwatch /usr/local/bin/heartwatch
COPY fixtures/light-1.csv fixtures/light-2.csv /usr/share/heartwatch/fixtures/
USER heartwatch
WORKDIR /var/lib/heartwatch
VOLUME /var/lib/heartwatch
ENV HEARTWATCH_DATA_DIR=/var/lib/heartwatch
EXPOSE 8080 1883
# The monitor answers and knows its publishers. Where it asks for a token, HEARTWATCH_TOKEN has it.
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s --retries=3 \
  CMD ["heartwatch", "status", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["heartwatch"]
CMD ["run"]
