# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package stratad \
    && install -D target/release/stratad /out/stratad

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/stratad --shell /usr/sbin/nologin stratad \
    && install -d -o stratad -g stratad -m 0700 /var/lib/stratad
COPY --from=build /out/stratad /usr/local/bin/stratad
USER stratad
ENV STRATAD_LISTEN=0.0.0.0:5000 STRATAD_DATA=/var/lib/stratad
VOLUME /var/lib/stratad
EXPOSE 5000
STOPSIGNAL SIGTERM
ENTRYPOINT ["stratad"]
CMD ["serve"]
