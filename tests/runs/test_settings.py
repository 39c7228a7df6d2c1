import pytest

from steeldefect.report.generators import STUDIES
from steeldefect.runs.errors import UserError
from steeldefect.runs.mixes import ORG20, added_counts, bank_count, judge_updates, mix_name, phase_updates
from steeldefect.runs.settings import plain
from tests.conftest import ROOT, Compose

NEU = [210] * 6  # 1,260 training images, nothing held back for validation


@pytest.mark.parametrize(
    ("mix", "synthetic"),
    [("org100", 0), ("org75", 420), ("org50", 1260), ("org30", 2940), ("org20", 5040), ("org0", 8000)],
)
def test_mix_counts_are_those_of_table_2(composed: Compose, mix: str, synthetic: int) -> None:
    settings = plain(composed("train_classifier", f"mix={mix}"))
    assert sum(added_counts(NEU, settings["mix"])) == synthetic
    assert mix_name(settings["mix"]) == mix
    assert bank_count(settings | {"bank": {"count": 8000}}, NEU) >= 8000


def test_mixes_keep_the_balance_of_the_real_images_or_level_it() -> None:
    def added(real: list[int], share: float, balance: str) -> list[int]:
        return added_counts(real, ORG20 | {"synthetic_share": share, "balance": balance})

    assert added([10, 20, 30], 0.5, "real") == [10, 20, 30]
    assert added([10, 20, 30], 0.5, "uniform") == [30, 20, 10]
    assert [n + m for n, m in zip([5, 5, 50], added([5, 5, 50], 0.25, "uniform"), strict=True)] == [16, 15, 50]
    assert sum(added([7, 11, 13], 0.7, "uniform")) == sum(added([7, 11, 13], 0.7, "real"))


@pytest.mark.parametrize(
    ("mix", "updates"),
    [("org100", 9000), ("org75", 11400), ("org50", 15000), ("org30", 22800), ("org20", 33000), ("org0", 56700)],
)
def test_updates_of_the_paper_s_schedule(composed: Compose, mix: str, updates: int) -> None:
    settings = plain(composed("train_classifier", "scale=paper", "schedule=paper", f"mix={mix}"))
    assert sum(phase_updates(settings, "paper", phase, NEU) for phase in ("initial", "retrain")) == updates
    fixed = [phase_updates(settings, "fixed_steps", phase, NEU) for phase in ("initial", "retrain")]
    assert fixed == [3000, 30000]


def test_updates_at_scale_cpu_keep_the_paper_s_proportions(composed: Compose) -> None:
    found = {}
    for mix in ("org100", "org20", "org0"):
        settings = plain(composed("train_classifier", "scale=cpu", "schedule=paper", f"mix={mix}"))
        found[mix] = [phase_updates(settings, "paper", phase, NEU) for phase in ("initial", "retrain")]
    assert found["org20"] == [200, 400]
    assert found["org100"] == [200, round(400 * 20 / 99)]
    assert found["org0"] == [round(200 * 125 / 20), round(400 * 125 / 99)]


def test_scale_paper_shows_every_value_of_the_paper(composed: Compose) -> None:
    gan = plain(composed("train_gan", "scale=paper", "dataset=neu_cls", "split=random"))
    assert gan["split"]["test_fraction"] == 0.3 and gan["split"]["validation_fraction"] == 0
    assert gan["gan"]["image_size"] == 256 and gan["gan"]["latent_dim"] == 100
    assert gan["gan"]["epochs"] == 800 and gan["gan"]["batch_size"] == 128
    assert gan["gan"]["optimizer"] == {"lr": 1e-4, "betas": [0.8, 0.99], "lr_discriminator": None}
    assert gan["bank"]["count"] == 8000
    cell = plain(composed("train_classifier", "scale=paper"))
    assert cell["optimizer"] == {"lr": 1e-3, "momentum": 0.9, "batch_size": 128}
    assert cell["phases"]["initial"]["epochs"] == 300 and cell["phases"]["retrain"]["epochs"] == 600
    assert cell["classifier"]["image_size"] == 224 and cell["classifier"]["weights"] is None
    assert cell["augment"] == "none"


EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
SCALES = sorted(path.stem for path in (ROOT / "conf" / "scale").glob("*.yaml"))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_at_every_scale(composed: Compose, experiment: str, scale: str) -> None:
    settings = plain(composed("train_classifier", f"experiment={experiment}", f"scale={scale}"))
    # an experiment may be a further part of a study: controls_augmented
    assert experiment.startswith(settings["study"]) or settings["study"] in STUDIES


def test_a_replicate_under_grouped_cv_is_a_fold_of_a_partition(composed: Compose) -> None:
    found = [plain(composed("split", "split=grouped_cv", f"replicate={r}")) for r in range(7)]
    assert [(s["partition_seed"], s["split"]["fold"]) for s in found] == [
        *((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0))
    ]
    assert [s["gan_seed"] for s in found] == list(range(7))
    assert plain(composed("split", "split=grouped", "replicate=5"))["partition_seed"] == 5


def test_in_low_data_nothing_is_chosen_on_validation(composed: Compose) -> None:
    with pytest.raises(UserError, match=r"quality\.snapshot=best_kid: .* more than real_per_class=5 allows"):
        plain(composed("train_gan", "quality.snapshot=best_kid", "quality.every=5", "real_per_class=5"))


def test_judges_get_the_updates_of_both_phases_whatever_the_phases_of_the_cells(composed: Compose) -> None:
    for overrides, updates in (
        (["scale=cpu"], 600),
        (["scale=cpu", "phases=retrain_only"], 600),
        (["scale=paper"], 33000),
    ):
        assert judge_updates(plain(composed("evaluate_gan", *overrides)), NEU) == updates


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("replicate=-1", r"replicate=-1: must be a whole number"),
        ("augment=classic", r"augment=classic: did you mean 'classical'"),
        ("precision=half", r"precision=half: choices: 16-mixed"),
        ("mix.synthetic_share=1.2", r"mix\.synthetic_share=1\.2: must lie in \[0, 1\]"),
        ("mix.balance=equal", r"mix\.balance=equal"),
        ("optimizer.lr=0", r"optimizer\.lr=0: must be a number above 0"),
        ("optimizer.momentum=1", r"optimizer\.momentum=1: must lie in \[0, 1\)"),
        ("gan.image_size=60", r"gan\.image_size=60: must be a power of two"),
        ("gan.optimizer.betas=[0.8]", r"gan\.optimizer\.betas=\[0\.8\]: two numbers"),
        ("gan.discriminator.keep_probability=0", r"keep_probability=0: must lie in \(0, 1\]"),
        ("gan.generator.embedding_std=-1", r"gan\.generator\.embedding_std=-1: must be a number from 0 up"),
        ("gan.loss=wasserstein", r"gan\.loss=wasserstein: choices: hinge, minimax, non_saturating"),
        ("gan.optimizer.lr_discriminator=0", r"gan\.optimizer\.lr_discriminator=0: must be a number above 0"),
        ("gan.generator.upsampling=bilinear", r"gan\.generator\.upsampling=bilinear: choices: deconvolution, resize"),
        ("gan.discriminator.augment=[contrats]", r"gan\.discriminator\.augment=contrats: did you mean 'contrast'"),
        ("gan.discriminator.augment=flip", r"gan\.discriminator\.augment=flip: must be a list"),
        ("gan.discriminator.augment=[flip,flip]", r"names one policy twice"),
        ("gan.discriminator.r1_gamma=-1", r"gan\.discriminator\.r1_gamma=-1: must be a number from 0 up"),
        ("gan.discriminator.input_gain=0", r"gan\.discriminator\.input_gain=0: must be a number above 0"),
        ("gan.discriminator.detail_gain=-1", r"gan\.discriminator\.detail_gain=-1: must be a number from 0 up"),
        ("gan.discriminator.mismatch=-1", r"gan\.discriminator\.mismatch=-1: must be a number from 0 up"),
        ("gan.generator.noise=1", r"gan\.generator\.noise=1: must be true or false"),
        ("gan.discriminator.r1_every=0", r"gan\.discriminator\.r1_every=0: must be a whole number from 1 up"),
        ("gan.discriminator.minibatch_std=1", r"gan\.discriminator\.minibatch_std=1: must be true or false"),
        ("gan.discriminator.kind=projection", r"gan\.discriminator\.kind=projection: did you mean 'projected'"),
        ("real_per_class=0", r"real_per_class=0: must be null or at least 1"),
        ("phases.retrain.updates=0", r"phases\.retrain\.updates=0"),
        ("bank.count=-1", r"bank\.count=-1"),
        ("bank.filter=human", r"bank\.filter=human: choices: None, classifier, discriminator"),
        ("bank.filter_keep=0", r"bank\.filter_keep=0: must lie in \(0, 1\]"),
        ("quality.every=-1", r"quality\.every=-1: must be a whole number of epochs"),
        ("quality.snapshot=best", r"quality\.snapshot=best: did you mean 'best_kid'"),
        ("quality.snapshot=best_kid", r"quality\.snapshot=best_kid: is chosen among the epochs of quality\.every=0"),
        ("quality.copies_min_overlap=1", r"quality\.copies_min_overlap=1: must lie in \(0, 1\)"),
        ("quality.neighbours=0", r"quality\.neighbours=0: must be a whole number from 1 up"),
        ("bank.export=jpg", r"bank\.export=jpg: did you mean 'png'"),
        ("schedule.name=both", r"schedule\.name=both"),
        ("keep_weights=no", r"keep_weights=no: must be true or false"),
        ("logger.wandb=off", r"logger\.wandb=off: must be true or false"),
        ("trainer.deterministic=yess", r"trainer\.deterministic=yess: must be true or false"),
        ("trainer.devices=2", r"trainer\.devices=2: a process computes on one; .* trainer=ddp and torchrun"),
        ("trainer.threads=0", r"trainer\.threads=0: null or at least 1"),
        ("trainer.threads=2.5", r"trainer\.threads=2\.5: null or at least 1"),
    ],
)
def test_bad_values_are_answered_with_key_and_value(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plain(composed("train_classifier", override))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["gan=projected", "gan.discriminator.feature_size=48"], r"feature_size=48: must be a power of two from 32 up"),
        (
            ["gan=projected", "gan.discriminator.head_channels=0"],
            r"gan\.discriminator\.head_channels=0: must be a whole",
        ),
        (
            ["gan=edcgan_plus", "gan.generator.norm=none"],
            r"gan\.generator\.norm=none: .*conditional_norm needs norm=batch",
        ),
    ],
)
def test_values_that_do_not_go_together_are_answered_too(composed: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plain(composed("train_classifier", *overrides))
