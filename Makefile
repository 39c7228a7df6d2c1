PYTHON ?= python3.11
DATA ?= rendered
SPLIT ?= grouped
SCALE ?= demo
GAN ?= edcgan
SCHEDULE ?= fixed_steps
REPLICATES ?= 0
CLASSIFIERS ?= mobilenet_v2,small_cnn,resnet19,vgg16
ARGS ?=

RUN := .venv/bin/python experiments
BASE = dataset=$(DATA) split=$(SPLIT) scale=$(SCALE) gan=$(GAN) schedule=$(SCHEDULE) $(ARGS)
STAMP := .venv/.installed

.PHONY: help setup demo test lint format audit validate-audit split gan bank table2 table3 inflation report status clean clean-artifacts
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 18
	@echo; echo "Variables (make table3 DATA=neu_cls SCALE=cpu REPLICATES=0,1,2):"
	@echo "  DATA=$(DATA) SPLIT=$(SPLIT) SCALE=$(SCALE) GAN=$(GAN) SCHEDULE=$(SCHEDULE) REPLICATES=$(REPLICATES)"
	@echo "  CLASSIFIERS=$(CLASSIFIERS)  ARGS=any further overrides"

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: SCALE := demo
demo: DATA := rendered
demo: CLASSIFIERS := mobilenet_v2,small_cnn,resnet19
demo: table3 ## the whole comparison on the embedded rendered data set, in minutes

test: $(STAMP) ## run the tests
	.venv/bin/python -m pytest --cov --cov-report=term:skip-covered

lint: $(STAMP) ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: $(STAMP) ## let ruff mend what it can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

audit: $(STAMP) ## find the images that show the same surface
	$(RUN)/audit.py dataset=$(DATA) $(ARGS)

validate-audit: $(STAMP) ## what the audit finds on plates whose overlaps are known, and what it costs
	$(RUN)/validate_audit.py dataset=$(DATA) $(ARGS)

split: $(STAMP) ## split the data set and say what lies where
	$(RUN)/split.py -m replicate=$(REPLICATES) $(BASE)

gan: $(STAMP) ## train a generator a replicate
	$(RUN)/train_gan.py -m replicate=$(REPLICATES) $(BASE)

bank: gan ## draw the synthetic images
	$(RUN)/synthesize.py -m replicate=$(REPLICATES) $(BASE)

table2: bank ## MobileNetV2 over six mixes, then the report
	$(RUN)/train_classifier.py -m experiment=table2 replicate=$(REPLICATES) $(BASE)
	$(RUN)/report.py study=table2 'output=$${artifacts}/report/table2' grid.replicates=[$(REPLICATES)] $(BASE)

table3: bank ## classifiers over three mixes, then the report
	$(RUN)/train_classifier.py -m experiment=table3 classifier=$(CLASSIFIERS) replicate=$(REPLICATES) $(BASE)
	$(RUN)/report.py study=table3 'output=$${artifacts}/report/table3' grid.classifiers=[$(CLASSIFIERS)] \
		grid.replicates=[$(REPLICATES)] $(BASE)

inflation: $(STAMP) ## what a leaking split pretends: random against grouped, originals alone
	$(RUN)/train_classifier.py -m experiment=inflation replicate=$(REPLICATES) dataset=$(DATA) scale=$(SCALE) $(ARGS)
	$(RUN)/report.py study=inflation 'output=$${artifacts}/report/inflation' 'where={dataset: $(DATA), scale: $(SCALE)}' \
		grid.replicates=[$(REPLICATES)] dataset=$(DATA) scale=$(SCALE) $(ARGS)

report: $(STAMP) ## tables and figures from the records there are
	$(RUN)/report.py $(BASE)

status: $(STAMP) ## what is done, running, failed
	$(RUN)/status.py

.PHONY: doctor test-cluster
doctor: $(STAMP) ## what would go wrong: installation, data, disk, device, W&B
	$(RUN)/doctor.py $(BASE)

test-cluster: $(STAMP) ## a study on a real SLURM of one node (root, slurm-wlm and munge)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,slurm]'
	STEELDEFECT_CLUSTER=1 .venv/bin/python -m pytest --no-cov -rs tests/cluster

clean: ## caches and logs; records, weights and what can be resumed stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .coverage build artifacts/logs artifacts/cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-artifacts: ## everything under artifacts/, records and weights too
	rm -rf artifacts
