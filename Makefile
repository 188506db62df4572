# Two commands on a fresh machine: `make demo` shows the main job, `make test` passes the tests. Each sets up what it needs.
.PHONY: help setup demo serve test lint bench results docs lock clean
.DEFAULT_GOAL := help
BIN := .venv/bin

help:
	@echo "make demo    the main job, live, on the embedded model"
	@echo "make serve   serve the API on 127.0.0.1:8080"
	@echo "make test    lint and all tests"
	@echo "make lint    ruff, mypy, import contracts, locks"
	@echo "make bench   the benchmarks, as ratios in one run"
	@echo "make results the figures under docs/results, made again; DATA names a folder of development files"
	@echo "make docs    write the generated parts of the documentation"

setup:
	@requirements/setup.sh

demo: setup
	@$(BIN)/gateway demo

serve: setup
	@$(BIN)/gateway serve

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: lint
	@$(BIN)/python -m pytest

bench: setup
	@for file in $$(ls bench/*.py | grep -v upstream); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Held-out questions and drawn images as files, then the pre-screen of the shipped policies over them. Without DATA only what
# the plugins hold out themselves is measured. About 20 minutes on one core. A missed target is told, and ends it with 1.
DATA ?=
HELD := build/held-out
results: setup
	@rm -rf $(HELD) && mkdir -p $(HELD)
	@$(BIN)/python -m gateway_intent.heldout --out $(HELD) $(if $(DATA),--data $(DATA))
	@$(BIN)/python -m gateway_image_text.evaluate.rows --texts $(HELD)/plain.jsonl --out $(HELD) \
	  $(if $(DATA),--images $(DATA)/medical_images.jsonl)
	@$(BIN)/gateway evaluate screen $(HELD)/*.jsonl --policy radiology --targets docs/results/targets.yaml --out docs/results/screen

docs: setup
	@$(BIN)/gateway policy schema > policies/schema.json
	@$(BIN)/python docs/generate.py

# Pins and hashes anew, after a change of requirements/*.in. Needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --excludes requirements/exclude.txt requirements/gateway.in -o requirements/gateway.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --excludes requirements/exclude.txt requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
