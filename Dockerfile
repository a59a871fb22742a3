# Two stages: the first builds a virtual environment from the lock files, the
# second contains only Python and that environment.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/quire && python -m venv /opt/build

# Dependencies change seldom, the code often: this layer is kept between builds.
COPY requirements.txt requirements-build.txt ./
# Each lock is installed exactly; `pip check` refuses packages that do not fit together.
RUN /opt/quire/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements.txt \
    && /opt/quire/bin/pip check \
    && /opt/build/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements-build.txt \
    && /opt/build/bin/pip check

COPY pyproject.toml README.md LICENSE ./
COPY ledger ledger
COPY server server
COPY migrations migrations
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/quire/bin/pip install --no-deps dist/*.whl \
    && /opt/quire/bin/pip check


FROM python:${PYTHON_VERSION}-slim
RUN groupadd --system --gid 10001 quire \
    && useradd --system --uid 10001 --gid quire --no-create-home \
        --home-dir /var/lib/quire --shell /usr/sbin/nologin quire \
    && install -d -o quire -g quire -m 0700 /var/lib/quire
COPY --from=builder /opt/quire /opt/quire
ENV PATH=/opt/quire/bin:$PATH PYTHONUNBUFFERED=1 QUIRE_DATA_DIR=/var/lib/quire

# By number, so that an orchestrator can see that the user is not root.
USER 10001:10001
WORKDIR /var/lib/quire
VOLUME /var/lib/quire
EXPOSE 8080

# Not with urllib: proxy settings must not redirect this check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; port = os.environ.get('QUIRE_PORT', ''); c = http.client.HTTPConnection('127.0.0.1', int(port) if port.isdecimal() else 8080, timeout=4); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]

# Needs QUIRE_DATABASE_URL and QUIRE_AUDIT_SECRET_KEY; compose.yaml shows all settings in use.
CMD ["quire", "serve", "--host", "0.0.0.0"]
