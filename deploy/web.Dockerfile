# The page, which asks Triton: the client's wheel with what serves it, nothing else.
#
#   docker compose --profile web build
#
# PYTHON_IMAGE is a whole reference, so that a digest can pin it.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
FROM ${PYTHON_IMAGE}

COPY client /src/client
RUN pip install --no-cache-dir "/src/client[web]" && rm -r /src

ENV HOME=/tmp \
    PYTHONUNBUFFERED=1
USER 1000:1000
EXPOSE 8080
CMD ["triton-vision", "web", "--host", "0.0.0.0"]
