# Sendrelay in a container. How to run it: docs/howto/docker.md

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# No dependency needs a compiler.
RUN python -m venv /opt/sendrelay
COPY pyproject.toml README.md LICENSE ./
COPY relay ./relay
RUN /opt/sendrelay/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.11-slim-bookworm
# A fixed number, so that a bind-mounted folder can be given to it: chown 10025:10025
RUN groupadd --gid 10025 sendrelay \
    && useradd --uid 10025 --gid 10025 --home-dir /var/lib/sendrelay --no-create-home \
        --shell /usr/sbin/nologin sendrelay \
    && install -d -o sendrelay -g sendrelay -m 0700 /var/lib/sendrelay
COPY --from=build /opt/sendrelay /opt/sendrelay
COPY config/relay.toml /etc/sendrelay/relay.toml
COPY config/openssl.cnf /opt/sendrelay/openssl.cnf

# RELAY_CONFIG: a file that is named is read whoever owns it, as a bind mount from a user's folder needs.
ENV PATH=/opt/sendrelay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENSSL_CONF=/opt/sendrelay/openssl.cnf \
    RELAY_CONFIG=/etc/sendrelay/relay.toml \
    RELAY_HEALTH_URL=http://127.0.0.1:8025/healthz

USER 10025:10025
WORKDIR /var/lib/sendrelay
VOLUME /var/lib/sendrelay
EXPOSE 25 465 587 2525 8025

# SIGTERM drains; give it `--stop-timeout 75`, for the default of 10 s cuts deliveries off.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['RELAY_HEALTH_URL'], timeout=4)"]

ENTRYPOINT ["relay"]
CMD ["serve"]
