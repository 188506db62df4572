# Two commands on a fresh machine: `make demo` shows the main job, `make test` passes the tests. Each sets up what it needs.
.PHONY: help setup demo serve upstream test test-started test-others lint bench results screen defence second-model docs lock clean
.DEFAULT_GOAL := help
BIN := .venv/bin

help:
	@echo "make demo    the main job, live, on the embedded model"
	@echo "make serve   serve the API on 127.0.0.1:8080"
	@echo "make upstream a model server that keeps to a script and fails on demand, on 127.0.0.1:9000"
	@echo "make test    lint and all tests"
	@echo "make lint    ruff, mypy, import contracts, locks"
	@echo "make bench   the benchmarks, as ratios in one run"
	@echo "make results the figures under docs/results, made again; DATA names a folder of development files"
	@echo "             (screen and defence are its two halves; second-model measures another model than the embedded one)"
	@echo "make docs    write the generated parts of the documentation"

setup:
	@requirements/setup.sh

demo: setup
	@$(BIN)/gateway demo

serve: setup
	@$(BIN)/gateway serve

upstream: setup
	@$(BIN)/python -m gateway.testing.upstream --port 9000

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# In two halves at once: the tests of STARTED start processes and wait for them, all others compute.
STARTED := tests/browser tests/cli tests/contract tests/docker tests/docs tests/e2e tests/evaluation
test: lint
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-started test-others

test-started:
	@$(BIN)/python -m pytest $(STARTED)

test-others:
	@$(BIN)/python -m pytest $(addprefix --ignore=,$(STARTED))

bench: setup
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Held-out questions and drawn images as files; then the pre-screen of the shipped policies over them, and demonstrations on the
# embedded model. Without DATA only what the plugins hold out themselves is measured. 20 minutes each on one core. A missed
# target is told, and ends it with 1.
DATA ?=
HELD := build/held-out$(if $(DATA),-data)
TEXTS := $(wildcard plugins/intent/gateway_intent/training/*/*.txt)
MADE := build/defence
results: setup
	@screen=0; $(MAKE) --no-print-directory screen || screen=$$?; $(MAKE) --no-print-directory defence && exit $$screen

$(HELD)/made: $(TEXTS) | setup
	@rm -rf $(HELD) && mkdir -p $(HELD)
	@$(BIN)/python -m gateway_intent.heldout --out $(HELD) $(if $(DATA),--data $(DATA))
	@$(BIN)/python -m gateway_image_text.evaluate.rows --texts $(HELD)/plain.jsonl --out $(HELD) \
	  $(if $(DATA),--images $(DATA)/medical_images.jsonl)
	@touch $@

screen: $(HELD)/made
	@$(BIN)/gateway evaluate screen $(HELD)/*.jsonl --policy radiology --targets docs/results/targets.yaml --out docs/results/screen

# What is asked was written by others than the library's authors, and nobody had looked at it when the library was ordered.
HARMFUL := $(HELD)/fresh-plain.jsonl $(HELD)/fresh-twins.jsonl
BENIGN := $(HELD)/fresh-vqa.jsonl $(HELD)/fresh-medication.jsonl $(HELD)/fresh-consumer.jsonl
PEOPLE = $(if $(DATA),--agreement $(DATA)/responses_xstest_annotated.jsonl)
defence: $(HELD)/made
	@$(BIN)/gateway evaluate defence $(HARMFUL) $(BENIGN) --limit 24 --max-tokens 24 $(PEOPLE) --out $(MADE)/budgets
	@$(BIN)/gateway evaluate defence $(HELD)/fresh-plain.jsonl $(HELD)/fresh-vqa.jsonl --limit 24 --max-tokens 24 --budgets 0,8 --mixes 0.5 \
	  --attacks none,role-play,prefix-injection,refusal-suppression,forged-turns,typographic --whole-gateway --out $(MADE)/attacks
	@for part in budgets attacks; do mkdir -p docs/results/defence/$$part && cp $(MADE)/$$part/defence.* docs/results/defence/$$part/; done

# For evaluation alone; the Gemma Terms of Use apply (bench/second_model.txt). 250 MB are downloaded.
second-model: $(HELD)/made
	@bench/second_model.sh build/second
	@$(BIN)/gateway evaluate defence $(HELD)/fresh-plain.jsonl $(HELD)/fresh-vqa.jsonl --limit 12 --max-tokens 24 --budgets 0,1,2,4,8 --mixes 0.5,1 \
	  --policies-dir build/second/policies --out $(MADE)/second
	@mkdir -p docs/results/defence/second && cp $(MADE)/second/defence.* docs/results/defence/second/

docs: setup
	@$(BIN)/gateway policy schema > policies/schema.json
	@$(BIN)/python docs/generate.py
	@$(BIN)/python docs/generate_records.py

# Pins and hashes anew, after a change of requirements/*.in. Needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --excludes requirements/exclude.txt requirements/gateway.in -o requirements/gateway.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --excludes requirements/exclude.txt requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
