# A small image with nothing but the command. Untested where this was written: there was no Docker.
#
#   docker build -t shadowcat .
#   docker run -p 8080:8080 -e TOKEN shadowcat proxy --listen 0.0.0.0:8080 --allow-host localhost \
#     --require-bearer-env TOKEN https://example.com/mcp
#
# It holds no Node and no Python: servers that are commands need an image of their own, into which the file
# /shadowcat can be copied.
FROM docker.io/library/rust:1-slim AS build
WORKDIR /src
COPY . .
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --profile dist --locked --bin shadowcat --target "$(rustc -vV | sed -n 's/^host: //p')" \
    && cp target/*/dist/shadowcat /shadowcat

FROM scratch
# For TLS to upstreams.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /shadowcat /shadowcat
USER 65534:65534
ENTRYPOINT ["/shadowcat"]
CMD ["--help"]
