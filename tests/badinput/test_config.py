"""Every option of a config with what it cannot be: refused by its path, before any data is read."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from limits import HANGS
from ml_collections import ConfigDict, config_flags

from configs import base, cifar_ensemble
from configs.studies import mnist_models
from imgcls_jax import commands, console, data, models
from imgcls_jax.commands import study as studies
from imgcls_jax.commands import trainer
from imgcls_jax.config import kinds
from imgcls_jax.config.options import OPTIONS as ALL_OPTIONS
from imgcls_jax.config.options import flat_options
from imgcls_jax.reporting import compare
from imgcls_jax.training import checks as options
from imgcls_jax.training import setup
from tests.badinput.trying import examples
from tests.test_structure import CONFIGS, load

ROOT = Path(__file__).parents[2]
OPTIONS = {
    path: option.kind
    for path, option in ALL_OPTIONS.items()
    if not isinstance(option.kind, kinds.Section)
}
NO_NUMBERS = ("abc", None, True, [], {"a": 1}, math.nan, math.inf, -math.inf, 10**400, b"1", object)
NO_TEXTS = (3, True, ["a"], b"a", "zero \0 byte")
NO_TUPLES = (3, "abc", None, [[]])
KINDS = {  # what no option of the kind can be; the paths of OPTIONS that may be None are left out by `wrong`
    kinds.Number: (*NO_NUMBERS, -1, -0.5, -1e30, 1e39),
    kinds.Whole: (*NO_NUMBERS, -1, 0.5, 1.0, 2**31, -(2**40)),
    kinds.Bytes: (*NO_NUMBERS, -1, 0.5, 2**63),
    kinds.Portion: (*NO_NUMBERS, -1, -0.5, 1.5, 2.5),
    kinds.Flag: (0, 1, "yes", None, []),
    kinds.Text: NO_TEXTS,
    kinds.FileName: (*NO_TEXTS, "a/b", "..", ".", "a" * 300),
    kinds.Choice: (3, None, True, ["adam"], "", "nonesuch", "Adam\n"),
    kinds.Tuple: NO_TUPLES,
}
BEYOND = {  # further values out of the range of an option
    "seed": [2**32],
    "data.validation_size": [0, 0.0],
    "data.image_size": [10_001],
    "train.epochs": [0],
    "train.batch_size": [0],
    "train.eval_batch_size": [0],
    "train.label_smoothing": [1.0, 2],
    "train.steps_per_dispatch": [0],
    "train.ema_decay": [1.0],
    "train.cpu_devices": [0, 257],
    "adapt.trainable": [("(",), (3,), ("a" * 10 + "{99999999999}",), ("(?P<a",)],
    "adapt.lora.targets": [("*",), (None,)],
    "adapt.lora.rank": [0],
    "adapt.lora.alpha": [0.0],
    "optimizer.learning_rate": [0.0],
    "optimizer.multipliers": [
        (("a", -1.0),),
        (("a",),),
        ("ab",),
        ((1, 2),),
        (("(", 1.0),),
        (("a", math.nan),),
    ],
    "optimizer.momentum": [1.0],
    "optimizer.beta1": [1.0],
    "optimizer.beta2": [1.0],
    "schedule.end_factor": [1.5],
    "schedule.step_epochs": [(0,), (-1,), ("a",), (math.nan,)],
    "schedule.factor": [0.0, 1.5],
    "schedule.patience": [0],
    "schedule.pct_start": [0.0, 1.0],
}
SAID = ("give", "Choose from", "is missing", "holds no options")  # what would do
# What the flags' parser refuses before it comes to that, as in --config.train.epochs=abc.
FLAG_TEXTS = {int: ("abc", "1.5", "", "[1]"), float: ("abc", "", "[1]"), bool: ("abc", "3")}


def changed(**values) -> ConfigDict:
    """configs/base.py with these options, whatever their types."""
    config = base.get_config()
    for path, value in values.items():
        replace(config, path, value)
    return config


def replace(config: ConfigDict, path: str, value) -> None:
    *sections, last = path.split(".")
    for name in sections:
        config = config[name]
    if last in config:
        del config[last]  # and with it its type
    config[last] = value


def wrong(option: str) -> list:
    kind = OPTIONS[option]
    values = [*KINDS[type(kind)], *BEYOND.get(option, ())]
    return [
        value for value in values if not (value is None and getattr(kind, "is_optional", False))
    ]


def test_every_option_of_the_base_config_has_its_line():
    assert list(flat_options(base.get_config())) == [
        option for option in flat_options(base.get_config()) if option in OPTIONS
    ]
    assert set(OPTIONS) == set(flat_options(base.get_config()))


def test_nothing_is_refused_that_there_is():
    options.check(base.get_config())
    for config in map(load, CONFIGS):
        if config.get("rows") == ConfigDict():
            continue  # what studies start from
        if "rows" in config:
            options.check_study(config, figures=compare.REPORTED)
        elif "members" in config:
            options.check_ensemble(config)
        else:
            options.check(config)
    for name in models.MODELS:
        assert {*models.options(name).values()} <= {*options.MODEL_KINDS, options.Any}, name


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_cannot_be_is_named(option, tried):
    for value in wrong(option):
        message = tried.refuses(options.check, changed(**{option: value}))
        assert option in message and any(word in message for word in SAID), message
    sections = option.split(".")
    config = base.get_config()
    section = config
    for name in sections[:-1]:
        section = section[name]
    del section[sections[-1]]
    if option not in options.OPTIONAL:
        assert tried.refuses(options.check, config).startswith(
            f"{option} is missing: start from configs/base.py"
        )


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize("option", OPTIONS)
def test_a_flag_of_another_type_is_refused_in_one_line(option, tried, tmp_path, capsys):
    default = base.get_config()
    for name in option.split("."):
        default = default[name]
    texts = FLAG_TEXTS.get(type(default), ())
    for text in texts:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        argv = ["launch.py", f"--config={ROOT}/configs/base.py", f"--config.{option}={text}"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flags, "FLAGS", values)
            with pytest.raises(SystemExit) as end:
                console.parse_flags(argv)
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and line.startswith("error: ") and option in line
        tried.refused += 1


SECTIONS = ("data", "model", "pretrained", "train", "adapt", "adapt.lora", "optimizer", "schedule")


@pytest.mark.parametrize("section", [*SECTIONS, "adapt.phases", "objective"])
def test_a_section_that_is_none_is_named(section, tried):
    for value in (3, "abc", None, [], (1,)):
        assert section in tried.refuses(options.check, changed(**{section: value}))
    if section in SECTIONS:
        assert "is missing" in tried.refuses(options.check, changed(**{section: ConfigDict()}))


@pytest.mark.parametrize(
    "option", ["train.epoch", "optimizers.name", "nothing", "data.paths", "adapt.lora.ranks"]
)
def test_an_option_that_there_is_not_is_named_with_the_nearest(option, tried):
    config = base.get_config()
    *sections, last = option.split(".")
    section = config
    for name in sections:
        if name not in section:
            section[name] = ConfigDict()
        section = section[name]
    section[last] = 1
    assert f"There is no option {option}. The nearest: " in tried.refuses(options.check, config)


MODEL_VALUES = {
    int: (*NO_NUMBERS, -1, 0.5, 2.0, 10**9),
    float: (*NO_NUMBERS, -0.1, -1),
    bool: (0, "yes", None),
    str: (3, None, ["a"]),
    options.Sequence[int]: (
        3,
        "abc",
        None,
        (),
        (0,),
        (-1, 2),
        (2.5,),
        ("a",),
        ((1,),),
        (True,),
        (10**9,),
    ),
    options.Sequence[str]: (3, "resnet18", None, (), (3,), ("nonesuch",)),
    options.Any: (
        3,
        "abc",
        ["a"],
        {"nonesuch": {}},
        {"resnet18": 3},
        {"cnn": {"hidden": -1}},
        {"cnn": {"nope": 1}},
    ),
}


@pytest.mark.parametrize("name", models.MODELS)
def test_a_models_option_that_cannot_be_is_named(name, tried):
    for option, kind in models.options(name).items():
        for value in MODEL_VALUES[kind]:
            model = ConfigDict({"name": name})
            model[option] = value
            assert "model" in tried.refuses(options.check, changed(model=model)), (option, value)
    message = tried.refuses(options.check, changed(model=ConfigDict({"name": name, "nonesuch": 1})))
    assert "has no option 'nonesuch'" in message


OBJECTIVES = [
    ({"name": "distil"}, "Did you mean 'distill'"),
    ({"name": 3}, "objective.name is 3"),
    ({"name": "distill"}, "belong together"),
    ({"name": "distill", "teacher": 3}, "objective.teacher is 3"),
    ({"teacher": "runs/x"}, "belong together"),
    ({"name": "simclr"}, "needs a projection"),
    *[
        ({"name": "distill", "teacher": "x", "weight": value}, "objective.weight")
        for value in (1.5, -1, *NO_NUMBERS)
    ],
    *[
        ({"name": "distill", "teacher": "x", "temperature": value}, "objective.temperature")
        for value in (0, -1.0, *NO_NUMBERS)
    ],
    ({"temperature": 1.0}, "no option 'temperature' for Labels"),
]
TOGETHER = [
    ({"data.folds": 1}, "data.folds is 1: give 2 or more, or 0 for none."),
    ({"data.folds": 3, "data.fold": 3}, "data.fold is 3, and data.folds 3: give fewer than these."),
    ({"data.fold": 1}, "data.fold is 1, and data.folds 0: give fewer than these."),
    ({"schedule.name": "onecycle", "schedule.warmup_epochs": 1.0}, "warm-up of its own"),
    ({"schedule.name": "cosine", "schedule.warmup_epochs": 10.0}, "fewer than train.epochs"),
    ({"schedule.name": "plateau", "schedule.min_rate": 1.0}, "schedule.min_rate is 1.0, above"),
    ({"data.transform": "flop"}, "Did you mean 'flip'"),
    ({"data.transform": "mixup|flip"}, "nothing may follow mixup"),
    ({"model": ConfigDict({"name": "hybrid", "backbones": ("cnn", "cnn")})}, "each once"),
    ({"model": ConfigDict({"name": "hybrid", "backbones": ("hybrid",)})}, "each once"),
    ({"model": ConfigDict({"name": "simclr", "backbone": "simclr"})}, "cannot be a backbone"),
    ({"model": ConfigDict({"name": "simclr", "backbone": "nope"})}, "nope"),
    ({"model": ConfigDict({"name": "simclr", "options": {"nope": 1}})}, "no option 'nope'"),
    (
        {"model": ConfigDict({"name": "se_resnet", "blocks": (1, 1), "kernels": (3, 3, 3)})},
        "config.model",
    ),
    ({"model": ConfigDict({"name": "vgg", "blocks": (1, 1), "filters": (3,)})}, "model"),
    ({"adapt.phases": {"one": {"train": {"epochs": 0}}}}, "adapt.phases.one.train.epochs is 0"),
    ({"adapt.phases": {"one": {"train": {"epochs": "a"}}}}, "adapt.phases.one.train.epochs is 'a'"),
    ({"adapt.phases": {"one": 3}}, "adapt.phases.one is 3"),
    ({"adapt.phases": {"one": {"train": 3}}}, "adapt.phases.one.train is 3"),
    (
        {"adapt.phases": {"one": {"train": {"epoch": 1}}}},
        "changes train.epoch, which a phase cannot",
    ),
    (
        {"adapt.phases": {"one": {"model": {"name": "vgg"}}}},
        "changes model.name, which a phase cannot",
    ),
    ({"adapt.phases": {"one": {"schedule": {"warmup_epochs": 10.0}}}}, "warmup_epochs"),
    ({"adapt.phases": {"one": {"data": {"transform": "x"}}}}, "no operation 'x'"),
    ({"model.pretrained": "nonesuch"}, "There are no weights 'nonesuch'"),
    ({"model.pretrained": "resnet50_v2"}, "weights of the model 'resnet50'"),
    ({"model.pretrained": "a" * 600}, "There are no weights"),
    ({"data.path": "a" * 600, "data.source": "csv"}, "There is no"),
    ({"data.source": "csv"}, "needs"),
    ({"data.source": "digits", "data.image_size": 8}, "folder only"),
]


@pytest.mark.parametrize(
    "values, message",
    [*TOGETHER, *[({"objective": ConfigDict(each)}, message) for each, message in OBJECTIVES]],
)
def test_what_cannot_be_together_is_refused_before_training(
    values, message, tried, tmp_path, monkeypatch
):
    monkeypatch.setattr(setup, "Initializer", lambda *_, **__: pytest.fail("a model was built"))
    values = {
        key: ConfigDict(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }
    assert message in tried.refuses(commands.train.train, changed(**values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command", [commands.train.train, commands.profile.profile, commands.show_data.show_data]
)
def test_no_data_is_read_for_a_config_that_cannot_be(command, tried, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda config, **_: pytest.fail("data were read"))
    assert (
        tried.refuses(command, changed(**{"train.epochs": -1}), tmp_path / "run")
        == "train.epochs is -1: give 1 or more."
    )
    assert not (tmp_path / "run").exists()


STUDIES = [
    ({"seeds": ()}, "seeds"),
    ({"seeds": (0, 0)}, "each seed once"),
    ({"seeds": (-1,)}, "seeds"),
    ({"seeds": (0.5,)}, "seeds"),
    ({"seeds": ("a",)}, "seeds"),
    ({"seeds": 3}, "seeds"),
    ({"title": 3}, "title"),
    ({"rows": ConfigDict()}, "rows"),
    ({"rows": 3}, "rows"),
    ({"rows": ConfigDict({"a": 3})}, "rows.a is 3"),
    ({"rows": ConfigDict({"a": {"config": 3}})}, "rows.a has no config"),
    ({"rows": ConfigDict({"a/b": {"config": {}}})}, "a name in rows"),
    ({"rows": ConfigDict({"a": {"config": {"seed": 1}}})}, "rows.a.config.name is missing"),
    ({"rows.lstm.config.train.epochs": 0}, "rows.lstm.config.train.epochs is 0: give 1 or more"),
    ({"rows.lstm.reported.accuracy": "high"}, "rows.lstm.reported.accuracy"),
    ({"rows.lstm.reported.accurac": 1.0}, "Did you mean 'accuracy'"),
    ({"needs": ConfigDict({"a": 3})}, "needs.a is 3"),
]
ENSEMBLES = [
    ({"weights": "best"}, "weights are 'best'"),
    ({"weights": "1,2,3"}, "each of the 2 members"),
    ({"weights": "-1,2"}, "weights"),
    ({"weights": "nan,1"}, "weights"),
    ({"weights": "inf,1"}, "weights"),
    ({"weights": "0,0"}, "weights"),
    ({"weights": 3}, "weights is 3"),
    ({"members": ConfigDict()}, "members"),
    ({"members": 3}, "members"),
    ({"members.cifar_resnet50_se.train.epochs": 0}, "members.cifar_resnet50_se.train.epochs is 0"),
]


@pytest.mark.parametrize(
    "train, config, values, message",
    [
        *[(studies.train, mnist_models, *each) for each in STUDIES],
        *[(studies.ensemble, cifar_ensemble, *each) for each in ENSEMBLES],
    ],
)
def test_a_study_that_cannot_be_trains_nothing(
    train, config, values, message, tried, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer, "_train_run", lambda *_: pytest.fail("a run was trained"))
    config = config.get_config()
    for path, value in values.items():
        replace(config, path, value)
    assert message in tried.refuses(train, config, tmp_path / "study")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("ab_/0", max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@examples(300)
@given(
    option=st.sampled_from(sorted({*OPTIONS, *SECTIONS, "objective", "adapt.phases"})),
    value=ANYTHING,
)
def test_anything_as_an_option(tried, option, value):
    tried.either(options.check, changed(**{option: value}))


@examples(100)
@given(name=st.sampled_from(sorted(models.MODELS)), data=st.data())
def test_anything_as_the_options_of_a_model(tried, name, data):
    given_options = data.draw(
        st.dictionaries(st.sampled_from([*models.options(name), "a"]), ANYTHING, max_size=3)
    )
    tried.either(options.check, changed(model=ConfigDict({**given_options, "name": name})))


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--config.model={}", "model.name is missing"),
        ("--config.train.epochs=-1", "train.epochs is -1: give 1 or more."),
        ("--config.nothing=1", "there is no option 'nothing'"),
        ("--config.data.validation_size=nan", "data.validation_size is nan"),
        ("--config=nowhere.py", "There is no config in nowhere.py"),
        ("--mode=nothing", "should be one of"),
        ("--nothing", "Unknown command line flag"),
    ],
)
def test_launch_ends_with_one_line(flag, message, tried, tmp_path):
    command = [
        sys.executable,
        "launch.py",
        "--config",
        "configs/quickstart.py",
        f"--workdir={tmp_path / 'run'}",
        flag,
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert run.returncode == 2 and run.stdout == "", run.stdout + run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run").exists()
    tried.refused += 1
