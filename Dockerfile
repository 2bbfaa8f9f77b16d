# syntax=docker/dockerfile:1

# One binary, built where the cache mounts keep cargo's registry and the target folder between builds.
FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked && cp target/release/offload /usr/local/bin/offload

# A base with a shell, so that an image of your own can add the programs that `exec` kinds run:
#   FROM offload
#   USER root
#   RUN apt-get update && apt-get install -y --no-install-recommends python3
#   USER offload
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /srv/offload offload \
    && install --directory --owner=offload --group=offload /srv/offload/files
COPY --from=build /usr/local/bin/offload /usr/local/bin/offload
USER offload
WORKDIR /srv/offload
ENV FILES_URL=file:///srv/offload/files
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["offload"]
CMD ["--help"]
