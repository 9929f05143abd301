# The first stage has pip and what it leaves behind; the second only what runs. For builds that can be repeated, give a
# digest: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements.txt .
# The lock is the whole set; scripts/install.sh takes it the same way.
RUN /venv/bin/pip install --require-hashes --no-deps -r requirements.txt && /venv/bin/pip check

FROM ${PYTHON_IMAGE}
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DJANGO_VAR_DIR=/var/lib/llm_routing
RUN useradd --system --uid 10001 --no-create-home llm_routing \
    && install -d -o llm_routing -m 0700 /var/lib/llm_routing
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY project project
COPY llm_routing llm_routing
RUN python -m compileall -q /app
USER llm_routing
VOLUME /var/lib/llm_routing
EXPOSE 8000
# A worker that is told to end finishes what it has begun within LLM_DRAIN_TIMEOUT (30 s); the limit here is for what
# keeps a connection open after that.
CMD ["uvicorn", "project.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--timeout-graceful-shutdown", "5", "--timeout-worker-healthcheck", "60"]
