# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package stratad \
    && install -D -m 0755 target/release/stratad /out/usr/local/bin/stratad \
    && ldd target/release/stratad | grep -o '/[^ ]*' | xargs -I{} install -D -m 0755 {} /out{} \
    && install -d -m 0700 -o 10001 -g 10001 /out/var/lib/stratad

# The program and the C library that it is linked with; no shell, nothing else.
FROM scratch
COPY --from=build /out/ /
USER 10001:10001
# SQLite's temporary files, for which there is no other place.
WORKDIR /var/lib/stratad
ENV STRATAD_LISTEN=0.0.0.0:5000 STRATAD_ADMIN_LISTEN=127.0.0.1:5001 STRATAD_DATA=/var/lib/stratad
VOLUME /var/lib/stratad
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["stratad", "health"]
ENTRYPOINT ["stratad"]
CMD ["serve"]
