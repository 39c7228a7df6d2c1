"""What a user sees who asks what there is, or mistypes it."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from steeldefect.runs.choices import groups, hint, keys_of, quoted, show_choices
from steeldefect.runs.settings import plain
from steeldefect.runs.verb import CONF
from tests.conftest import ROOT, Compose

VERBS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "base")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("gan.epoch=3", "gan.epoch: did you mean 'epochs'? choices: "),
        ("clasifier=small_cnn", "clasifier: did you mean 'classifier'? choices: "),
        ("scale=smok", "scale=smok: did you mean 'smoke'? choices: cpu, demo, paper, smoke"),
        ("experiment=tabel3", "experiment=tabel3: did you mean 'table3'?"),
        ("debug=fats", "debug=fats: did you mean 'fast'?"),
        ("hydra/launchr=basic", "hydra/launchr: did you mean 'hydra/launcher'?"),
        ("hydra/launcher=basik", "hydra/launcher=basik: did you mean 'basic'?"),
        ("mix=common", "mix=common: choices: bank1000, classical, "),
        ("scale=gpu", "scale=gpu: did you mean 'cpu'? choices: cpu, demo, paper, smoke; a GPU is taken without being"),
        ("replicate=0,1", "several values: put -m after the script"),
        ("mix=org20,org0", "several values: put -m after the script"),
        ("dataset.root=/my images (2024)", "a value with ~, ( ) { }, = or a comma is quoted twice"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(override: str, said: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(HydraException) as error:
        compose("train_gan", [override])
    assert hint(error.value).startswith(said)


@pytest.mark.parametrize("name", ["Öfen", "my images (2024)", "a, b = c", "it's", 'quo"te'])
def test_a_path_that_is_there_needs_no_quotes(tmp_path: Path, name: str) -> None:
    argument = f"dataset.root={tmp_path / name}"
    if name.isascii():
        assert quoted(argument) == argument, "it might be meant as something else"
    (tmp_path / name).mkdir()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("train_gan", [quoted(argument)]).dataset.root == str(tmp_path / name)


def test_an_id_is_no_number() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for given in ("12e456789012", "1234567890e1", "12ab34cd56ef", "123456789012"):
            assert str(compose("export", [quoted(f"cell={given}")]).cell) == given


def test_what_is_no_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for argument in (
        "-m",
        "replicate=0,1",
        "where={gan: [a]}",
        "output=${artifacts}/x",
        "'a b'=c",
        "~logger",
        "x=range(1,3)",
        "x=" + 200 * "a b",
    ):
        assert quoted(argument) == argument
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    assert quoted("dataset.root=~/images") == f"dataset.root='{tmp_path}/images'"
    (tmp_path / "my conf").mkdir()
    assert quoted(f"--config-dir={tmp_path}/my conf") == f"--config-dir={tmp_path}/my conf"


def test_other_errors_get_no_hint() -> None:
    assert hint(None) == hint(ValueError("x")) == ""


def test_every_verb_has_its_script() -> None:
    assert all((ROOT / "experiments" / f"{name}.py").is_file() for name in VERBS)


def test_info_lists_groups_choices_and_what_the_files_say_of_each_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert groups(CONF, "train_gan")["scale"] == "demo"
    show_choices(CONF, "report")
    shown = capsys.readouterr().out
    assert "[edcgan]" in shown and "dcgan" in shown
    for key in (
        "source",
        "grid.replicates",
        "replicate",
        "gan.optimizer.lr",
        "classifier.width",
        "quality.classifier.name",
    ):
        assert any(line.split()[:1] == [key] for line in shown.splitlines()), key
    assert not any(line.strip().startswith("hydra.") for line in shown.splitlines())


def test_keys_of_a_file_are_dotted_by_their_depth() -> None:
    found = {key: (value, comment) for key, value, comment in keys_of(CONF / "gan" / "edcgan.yaml", "gan.")}
    assert found["gan.optimizer.betas"] == ("[0.8, 0.99]", 'paper: section 4.1, "decay"')
    assert "gan.optimizer" not in found and found["gan.discriminator.norm"][0] == "none"


def test_debug_presets_are_short_and_stay_out_of_the_artifacts() -> None:
    """Neither under the root of the real ones nor, at another root, under their ids."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        real, *found = (
            plain(compose("train_classifier", ["scale=paper", *given]))
            for given in (
                [],
                ["debug=fast"],
                ["debug=overfit"],
                ["debug=profile"],
                ["debug=fast", "phases=retrain_only"],
            )
        )
    fast, overfit, profile, alone = found
    assert real["artifacts"] == "artifacts" and {settings["artifacts"] for settings in found} == {"artifacts/debug"}
    for settings in found:
        assert settings["phases"]["retrain"] != real["phases"]["retrain"] and settings["gan"] != real["gan"]
        assert settings["classifier"] == real["classifier"] and not settings["logger"]["wandb"]
    assert fast["phases"]["retrain"]["updates"] == 4 and alone["phases"]["initial"] is None
    assert overfit["real_per_class"] == 2 and overfit["mix"]["synthetic_share"] == 0
    assert profile["trainer"]["profiler"] == "simple" and real["trainer"]["profiler"] is None


def test_profile_leaves_its_report_in_the_logs(tiny: Compose) -> None:
    from steeldefect.classify.training import train_cell
    from steeldefect.runs.prepare import prepare

    context = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100", "trainer.profiler=simple"))
    train_cell(context)
    reports = sorted(path.name for path in (context.store.root / "logs").glob("*.txt"))
    assert reports == [f"fit-profile-small_cnn-org100-r0-{phase}.txt" for phase in ("initial", "retrain")]
    assert "optimizer_step" in (context.store.root / "logs" / reports[0]).read_text()
