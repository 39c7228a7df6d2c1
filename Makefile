PYTHON ?= python3.11
# the others are set on the command line alone: a shell may well have an OUTPUT or SOURCE of its own
DATA := rendered
SPLIT := grouped
SCALE := demo
GAN := edcgan
SCHEDULE := fixed_steps
REPLICATES := 0
REPEATS :=
CLASSIFIERS := mobilenet_v2,small_cnn,resnet19,vgg16
MIXES :=
K := 10
STUDY := controls
SOURCE :=
OUTPUT :=
METRIC :=
JOBS :=
PARTS := controls controls_augmented
ARGS :=

KNOWN := PYTHON DATA SPLIT SCALE GAN SCHEDULE REPLICATES REPEATS CLASSIFIERS MIXES K STUDY SOURCE OUTPUT METRIC JOBS PARTS ARGS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(KNOWN) MAKE% -%,$(GIVEN))
$(if $(strip $(UNKNOWN)),$(error no such variable: $(UNKNOWN); there are $(KNOWN)))

comma := ,
open := (
# what a variable holds but for further overrides and Hydra's functions: MIXES="org20,org0 mix.balance=uniform"
VALUES = $(foreach word,$($(1)),$(if $(or $(findstring =,$(word)),$(findstring $(open),$(word))),,$(word)))
$(foreach name,$(filter-out PYTHON OUTPUT PARTS ARGS,$(KNOWN)),$(if $(word 2,$(call VALUES,$(name))),$(error $(name)=$($(name)): \
	several values are separated by commas alone, no spaces)))

# before anything is trained; other folders of configs are not looked through
CHOICES = $(filter-out _%,$(patsubst conf/$(1)/%.yaml,%,$(wildcard conf/$(1)/*.yaml)))
AMISS = $(filter-out $(call CHOICES,$(2)),$(subst $(comma), ,$(call VALUES,$(1))))
CHECKED = $(if $(AMISS),$(error $(1)=$($(1)): no $(AMISS) in conf/$(2); there are $(call CHOICES,$(2))))
GROUPS := DATA/dataset SPLIT/split SCALE/scale GAN/gan SCHEDULE/schedule CLASSIFIERS/classifier MIXES/mix PARTS/experiment
$(if $(findstring hydra.searchpath,$(ARGS)),,$(foreach pair,$(GROUPS),$(call CHECKED,$(patsubst %/,%,$(dir $(pair))),$(notdir $(pair)))))

METRICS := accuracy balanced_accuracy macro_f1
$(if $(filter-out $(METRICS),$(METRIC)),$(error METRIC=$(METRIC): there are $(METRICS)))
$(if $(and $(filter inflation,$(MAKECMDGOALS)),$(filter-out accuracy,$(METRIC))),$(error METRIC=$(METRIC): inflation is of accuracy))
$(if $(and $(filter inflation,$(MAKECMDGOALS)),$(MIXES)),$(error MIXES=$(MIXES): inflation is of the originals alone))
$(if $(and $(filter table2,$(MAKECMDGOALS)),$(filter CLASSIFIERS,$(GIVEN))),$(error CLASSIFIERS=$(CLASSIFIERS): table2 is of mobilenet_v2; table3 compares classifiers))
$(if $(and $(REPEATS),$(or $(filter choose-lr,$(MAKECMDGOALS)),$(filter choose_lr,$(STUDY)))),$(error REPEATS=$(REPEATS): a rate is chosen from one training a replicate))
$(if $(and $(filter report,$(MAKECMDGOALS)),$(filter K,$(GIVEN)),$(filter STUDY,$(GIVEN)),$(filter table2 table3 inflation controls,$(STUDY))),\
	$(error K=$(K): STUDY=$(STUDY) is of all real images))

# images of containers often set it; without bytecode every start of a verb compiles torch and Lightning anew (14 s for 5)
unexport PYTHONDONTWRITEBYTECODE

# a cell that failed costs itself alone; a sweep that was told to stop (128 + signal) ends all of it, report and next part too
GO_ON = || { code=$$?; [ $$code -lt 128 ] || exit $$code; failed=1; }
RUN := .venv/bin/python experiments
BASE = dataset=$(DATA) split=$(SPLIT) scale=$(SCALE) gan=$(GAN) schedule=$(SCHEDULE) $(ARGS)
# the study of splits sweeps them
LEAKING = dataset=$(DATA) scale=$(SCALE) $(ARGS)
ABLATED = dataset=$(DATA) split=$(SPLIT) scale=$(SCALE) schedule=$(SCHEDULE) $(ARGS)
SWEEP = -m $(if $(JOBS),hydra/launcher=local hydra.launcher.n_jobs=$(JOBS))
# what was made elsewhere, beside what is made here
FROM = $(if $(SOURCE),'source=[$(SOURCE)$(comma)$${artifacts}]')
# cells of other studies in the same folder are no part of a report, nor of its Holm's correction
AGAIN = $(if $(REPEATS),$(comma) repeat: [$(REPEATS)])
OF = 'where={dataset: $(DATA), split: $(SPLIT), scale: $(SCALE)$(1)$(AGAIN)}'
# tables 2 and 3 are of one augmentation and one number of real images, all unless ARGS says another
PLAIN = $(if $(findstring augment=,$(ARGS)),,$(comma) augment: none)$(if $(findstring real_per_class=,$(ARGS)),,$(comma) real_per_class: null)
# what tells a study from others in the same folder
OWN_table2 = $(PLAIN)$(comma) classifier: mobilenet_v2
OWN_table3 = $(PLAIN)$(comma) classifier: [$(CLASSIFIERS)]
OWN_controls = $(comma) real_per_class: null
# `make report` of what there is: a default of a variable would hide cells, and so would k without the cells on all images
SAYS = $(if $(filter $(1),$(GIVEN)),$(comma) $(2))
OWN = $(if $(filter table3,$(STUDY)),$(PLAIN)$(call SAYS,CLASSIFIERS,classifier: [$(CLASSIFIERS)]),$(OWN_$(STUDY)))
THERE = $(call SAYS,DATA,dataset: $(DATA))$(if $(filter inflation,$(STUDY)),,$(call SAYS,SPLIT,split: $(SPLIT)))$(call SAYS,SCALE,scale: $(SCALE))$(call \
	SAYS,K,real_per_class: [$(K)$(comma) null])$(if $(filter STUDY,$(GIVEN)),$(OWN))$(AGAIN)
# the report of a study: where it goes, and its replicates
PUT = 'output=$(if $(OUTPUT),$(OUTPUT),$${artifacts}/report/$(1))'
TO = $(PUT) grid.replicates=[$(REPLICATES)] $(if $(METRIC),metric=$(METRIC))
# in place of what an experiment declares, where they are given
SAID = $(filter CLASSIFIERS,$(GIVEN))
MIXED = $(if $(MIXES),mix=$(MIXES))
GRID = $(if $(SAID),classifier=$(CLASSIFIERS)) $(MIXED)
RUNS = replicate=$(REPLICATES) $(if $(REPEATS),repeat=$(REPEATS))
STAMP := .venv/.installed

.PHONY: help setup demo test test-coverage lint format audit validate-audit split gan bank quality ablation gan-rates generators table2 table3 inflation controls \
	low-data choose-lr plan report status clean clean-artifacts
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 18
	@echo; echo "Variables (make table3 DATA=neu_cls SCALE=cpu REPLICATES=0,1,2):"
	@echo "  DATA=$(DATA) SPLIT=$(SPLIT) SCALE=$(SCALE) GAN=$(GAN) SCHEDULE=$(SCHEDULE) REPLICATES=$(REPLICATES)"
	@echo "  CLASSIFIERS=$(CLASSIFIERS)  MIXES=instead of a study's own"
	@echo "  PARTS='$(PARTS)': the experiments that make up controls  ARGS=any further overrides"
	@echo "  K=$(K) images a class (low-data)  STUDY=$(STUDY) (plan, report: of what there is, or of the DATA SPLIT SCALE REPLICATES K given)"
	@echo "  REPEATS=0,1,2 (a list, as REPLICATES) trains every cell three times; their mean enters, n counts replicates. Reports take all there are, or those given"
	@echo "  JOBS=2 cells of a sweep at a time, each in a process of its own, the cores shared out (one after the other)"
	@echo "  OUTPUT=folder of the report (experiments/results/controls, to commit it) instead of artifacts/report/<study>"
	@echo "  METRIC=balanced_accuracy or macro_f1: what the differences of a report are tested in, where classes are uneven (accuracy)"
	@echo "  SOURCE=folders of committed results (experiments/results/controls) that reports and plan count in"

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: SCALE := demo
demo: DATA := rendered
demo: GAN := edcgan_plus
demo: CLASSIFIERS := mobilenet_v2,small_cnn
demo: table3 ## the whole comparison on the embedded rendered data set, in minutes

test: $(STAMP) ## run the tests
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-coverage: $(STAMP) ## run the tests and say which lines none of them reaches
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

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
	$(RUN)/split.py $(SWEEP) replicate=$(REPLICATES) $(BASE)

gan: $(STAMP) ## train a generator a replicate
	$(RUN)/train_gan.py $(SWEEP) replicate=$(REPLICATES) $(BASE)

bank: gan ## draw the synthetic images
	$(RUN)/synthesize.py $(SWEEP) replicate=$(REPLICATES) $(BASE)

quality: bank ## KID, coverage, GAN-test, GAN-train, copies of a generator a replicate
	$(RUN)/evaluate_gan.py $(SWEEP) replicate=$(REPLICATES) $(BASE)

ablation: $(STAMP) ## what each ingredient of edcgan_plus is worth: eighteen generators, on one development replicate
	$(RUN)/train_gan.py $(SWEEP) experiment=gan_ablation $(ABLATED)
	$(RUN)/synthesize.py $(SWEEP) experiment=gan_ablation $(ABLATED)
	$(RUN)/evaluate_gan.py $(SWEEP) experiment=gan_ablation $(ABLATED)
	$(RUN)/report.py study=generators_ablation $(call PUT,generators_ablation) $(FROM) $(ABLATED)

gan-rates: $(STAMP) ## dcgan, edcgan and edcgan_plus at three learning rates each, on one development replicate
	$(RUN)/train_gan.py $(SWEEP) experiment=gan_rates $(ABLATED)
	$(RUN)/synthesize.py $(SWEEP) experiment=gan_rates $(ABLATED)
	$(RUN)/evaluate_gan.py $(SWEEP) experiment=gan_rates $(ABLATED)
	$(RUN)/report.py study=generators $(call PUT,generators) $(FROM) $(ABLATED)

generators: $(STAMP) ## the table of the generators whose quality was measured
	$(RUN)/report.py study=generators $(call PUT,generators) $(FROM) $(BASE)

table2: bank ## MobileNetV2 over six mixes, then the report
	$(RUN)/train_classifier.py $(SWEEP) experiment=table2 $(MIXED) $(RUNS) $(BASE) $(GO_ON); \
	$(RUN)/report.py study=table2 $(call TO,table2) $(call OF,$(OWN_table2)) $(FROM) $(BASE) && exit $$failed

table3: bank ## classifiers over three mixes, then the report
	$(RUN)/train_classifier.py $(SWEEP) experiment=table3 classifier=$(CLASSIFIERS) $(MIXED) $(RUNS) $(BASE) $(GO_ON); \
	$(RUN)/report.py study=table3 $(call TO,table3) grid.classifiers=[$(CLASSIFIERS)] \
		$(call OF,$(OWN_table3)) $(FROM) $(BASE) && exit $$failed

inflation: $(STAMP) ## what a leaking split pretends: random against grouped, originals alone
	$(RUN)/train_classifier.py $(SWEEP) experiment=inflation $(GRID) $(RUNS) $(LEAKING) $(GO_ON); \
	$(RUN)/report.py study=inflation $(call TO,inflation) 'where={dataset: $(DATA), scale: $(SCALE)$(AGAIN)}' \
		$(FROM) $(LEAKING) && exit $$failed

controls: bank ## originals, bank and their controls, then the report
	for part in $(subst $(comma), ,$(PARTS)); do \
		$(RUN)/train_classifier.py $(SWEEP) experiment=$$part $(GRID) $(RUNS) $(BASE) $(GO_ON); \
	done; \
	$(RUN)/report.py study=controls $(call TO,controls) $(call OF,$(OWN_controls)) $(FROM) $(BASE) && exit $$failed

low-data: $(STAMP) ## K real images a class, for the generator too, then the report
	$(RUN)/train_gan.py $(SWEEP) real_per_class=$(K) replicate=$(REPLICATES) $(BASE)
	$(RUN)/synthesize.py $(SWEEP) mix=org20,bank1000 real_per_class=$(K) replicate=$(REPLICATES) $(BASE)
	$(RUN)/train_classifier.py $(SWEEP) experiment=low_data $(GRID) real_per_class=$(K) $(RUNS) $(BASE) $(GO_ON); \
	$(RUN)/report.py study=low_data $(call TO,low_data) $(OF) $(FROM) $(BASE) && exit $$failed

# a rate that diverges is an answer too, so the choice is made from what there is
choose-lr: $(STAMP) ## choose learning rates on development replicates, by validation
	-$(RUN)/train_classifier.py $(SWEEP) experiment=choose_lr $(GRID) $(BASE)
	$(RUN)/choose_lr.py scale=$(SCALE) $(if $(OUTPUT),output=$(OUTPUT)) $(FROM) $(ARGS)

plan: $(STAMP) ## cells, cost and state of a study (STUDY=controls)
	$(RUN)/plan.py study=$(STUDY) $(if $(filter PARTS,$(GIVEN)),'parts=[$(subst $() $(),$(comma),$(PARTS))]') $(if $(filter-out choose_lr,$(STUDY)),sweep.replicate=[$(REPLICATES)]) $(if $(REPEATS),sweep.repeat=[$(REPEATS)]) \
		$(if $(SAID),sweep.classifier=[$(CLASSIFIERS)]) $(if $(MIXES),sweep.mix=[$(MIXES)]) \
		$(if $(filter low_data,$(STUDY)),real_per_class=$(K)) $(if $(SOURCE),'source=[$(SOURCE)]') $(if $(filter inflation,$(STUDY)),$(LEAKING),$(BASE))

report: $(STAMP) ## tables and figures from the records there are; STUDY, METRIC, OUTPUT as for the studies
	$(RUN)/report.py $(if $(filter STUDY,$(GIVEN)),study=$(STUDY) $(if $(OUTPUT),,'output=$${artifacts}/report/$(STUDY)')) $(if $(OUTPUT),'output=$(OUTPUT)') \
		$(if $(filter REPLICATES,$(GIVEN)),grid.replicates=[$(REPLICATES)]) $(if $(and $(SAID),$(filter table3,$(STUDY))),grid.classifiers=[$(CLASSIFIERS)]) \
		$(if $(METRIC),metric=$(METRIC)) $(if $(THERE),'where={$(wordlist 2,99,$(THERE))}') $(FROM) $(BASE)

status: $(STAMP) ## what is done, running, failed, the time left; with STUDY=controls what is missing of it
	$(RUN)/status.py $(ARGS)
	$(if $(filter STUDY,$(GIVEN)),@$(MAKE) --no-print-directory plan)

dashboard: $(STAMP) ## a W&B workspace and report of the runs there are: saved with a key, written as JSON without
	$(RUN)/dashboard.py $(BASE)

sync: $(STAMP) ## upload the W&B runs that were logged offline (needs WANDB_API_KEY)
	cd artifacts && ../.venv/bin/wandb sync --yes

.PHONY: dashboard sync doctor test-cluster
doctor: $(STAMP) ## what would go wrong: installation, data, disk, device, W&B
	$(RUN)/doctor.py $(BASE)

test-cluster: $(STAMP) ## a study on a real SLURM of one node (root, slurm-wlm and munge)
	.venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev,slurm]'
	STEELDEFECT_CLUSTER=1 .venv/bin/python -m pytest -rs tests/cluster

.PHONY: bench floor
bench: $(STAMP) ## ours against what one would write instead, in ratios; on a machine that does nothing else
	$(RUN)/benchmark.py 'output=$(if $(OUTPUT),$(OUTPUT),experiments/results/bench)' $(ARGS)

floor: $(STAMP) ## FLOPs, bytes, least hours of each stage (SCALE=paper ARGS='device.tflops=989 device.gbs=4800')
	$(RUN)/floor.py scale=$(SCALE) gan=$(GAN) schedule=$(SCHEDULE) $(ARGS)

clean: ## caches and logs; records, weights and what can be resumed stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .coverage build artifacts/logs artifacts/cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-artifacts: ## everything under artifacts/, records and weights too
	rm -rf artifacts
