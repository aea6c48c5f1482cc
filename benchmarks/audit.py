"""How many label errors an audit finds: python -m benchmarks.audit CONFIG --split test

Wrong labels are planted in a share of the images, each another class at random, and the suspected
ones are compared with them. With `--judgements FILE` the suspected ones of the data as it is are
compared with those that people confirmed: FILE is mnist_mturk.json or cifar10_mturk.json of
https://github.com/cleanlab/label-errors, whose ids count the images of the original test set. Where
the data has another order, `--order FILE.npy` has the place of each original image in it. With
`--run RUN` the test predictions of a run, which has not seen these labels, are ranked as well.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.common import command_line, machine, progress
from imgcls_jax import api, backend, data, pretrained
from imgcls_jax.commands import configs
from imgcls_jax.evaluation import audit as auditing
from imgcls_jax.evaluation import confident_learning, embedding
from imgcls_jax.evaluation.audit import Audit, Examples
from imgcls_jax.run.folder import RunFolder

SHARES = (0.01, 0.05, 0.1)  # of labels that are planted
FIRST = 100
MAJORITY = 3  # of five people: a label that fewer chose is an error


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.audit", __doc__)
    configs.add_config(parser)
    parser.add_argument("--split", default="test")
    parser.add_argument("--judgements", type=Path, help="JSON file of what people said")
    parser.add_argument("--order", type=Path, help=".npy file: places of the original images")
    parser.add_argument("--run", help="a run whose test predictions are ranked, too")
    parser.add_argument("--seed", type=int, default=0, help="of the planted errors")
    options, options.changes = parser.parse_known_args(arguments)
    config = api.check_config(configs.load_one(options).config)
    backend.configure()
    pretrained.fetch(config)
    source = data.read(config.data)
    examples = auditing.collect(source, [options.split])
    images = examples.datasets[options.split].images
    embed, features = embedding.choose(config, images)
    started = time.perf_counter()
    vectors = embed(examples.datasets[options.split])
    feature_seconds = time.perf_counter() - started
    progress("audit of the data as it is")
    audit = auditing.run(examples, lambda dataset: vectors)
    print(f"{machine()}; {len(examples):,} images; {features}; seed {options.seed}.\n")
    print(_seconds(audit, feature_seconds))
    if options.judgements:
        print(_confirmed(audit, options.judgements, options.order))
    if options.judgements and options.run:
        print(f"Test predictions of {options.run}:\n")
        print(_confirmed(_of_run(audit, options.run), options.judgements, options.order))
    print(_planted(examples, vectors, seed=options.seed))


def _seconds(audit: Audit, feature_seconds: float) -> str:
    parts = {"features": feature_seconds, "principal components": audit.seconds["features"]}
    parts |= {"five folds": audit.seconds["folds"], "neighbours": audit.seconds["neighbours"]}
    cells = [f"{seconds:,.1f}" for seconds in parts.values()]
    memory = f"{backend.peak_memory() / 1e9:.1f}"
    lines = [
        f"| {' | '.join(parts)}, seconds | peak memory, GB |",
        "| ---: | ---: | ---: | ---: | ---: |",
        f"| {' | '.join(cells)} | {memory} |",
        "",
    ]
    return "\n".join(lines)


def _confirmed(audit: Audit, file: Path, order: Path | None) -> str:
    """Returns a table of the errors that people confirmed among the suspected ones."""
    is_error, is_judged = _judgements(audit.examples, json.loads(file.read_text()), order)
    scores = confident_learning.label_probabilities(audit.examples.labels, audit.probabilities)
    rankings = {
        "confident learning": audit.label_errors,
        "probability of the label alone": np.argsort(scores, kind="stable"),
    }
    lines = [
        f"| ranking | suspected | confirmed of the first {FIRST} | shown to people of these | found "
        f"of all {is_error.sum()} confirmed |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, ranking in rankings.items():
        first = ranking[:FIRST]
        suspected = f"{len(ranking):,}"
        if len(ranking) == len(scores):
            suspected = "all"
        confirmed = is_error[first].sum()
        lines.append(
            f"| {name} | {suspected} | {confirmed} of {len(first)} | {is_judged[first].sum()} | "
            f"{confirmed / is_error.sum():.0%} |"
        )
    accuracy = f"{audit.accuracy:.2%} of the labels are most probable out of sample."
    return "\n".join([accuracy, "", *lines, ""])


def _of_run(audit: Audit, run: str) -> Audit:
    """Returns the audit with a run's test predictions as probabilities."""
    probabilities, labels = RunFolder(run).predictions
    if not np.array_equal(labels, audit.examples.labels):
        sys.exit(f"{run} was tested on other images: give --split test and the run's config.")
    probabilities = probabilities.astype(np.float64)
    suspected = confident_learning.label_errors(labels, probabilities)
    return dataclasses.replace(audit, probabilities=probabilities, label_errors=suspected)


def _judgements(
    examples: Examples, judgements: list[Mapping], order: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether people say that an example's label is wrong, and whether they saw it.

    Raises SystemExit if the labels are not those that people were shown: the order is another one.
    """
    places = np.arange(len(examples))
    if order:
        places = np.load(order)
    is_error = np.zeros(len(examples), bool)
    is_judged = np.zeros(len(examples), bool)
    for judgement in judgements:
        place = places[judgement["id"]]
        if examples.labels[place] != judgement["given_original_label"]:
            sys.exit("The images are not in the order of the judgements: give --order.")
        is_judged[place] = True
        is_error[place] = judgement["mturk"]["given"] < MAJORITY
    return is_error, is_judged


def _planted(examples: Examples, vectors: np.ndarray, *, seed: int) -> str:
    lines = [
        f"| planted | suspected | precision | recall | precision of the first {FIRST} |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for share in SHARES:
        progress(f"{share:.0%} planted")
        labels, is_wrong = plant(examples, share, seed=seed)
        audit = auditing.run(dataclasses.replace(examples, labels=labels), lambda dataset: vectors)
        suspected = audit.label_errors
        hits = is_wrong[suspected]
        lines.append(
            f"| {is_wrong.sum():,} ({share:.0%}) | {len(suspected):,} | {hits.mean():.1%} | "
            f"{hits.sum() / is_wrong.sum():.1%} | {hits[:FIRST].mean():.0%} |"
        )
    return "\n".join(lines)


def plant(examples: Examples, share: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels int [N], a share of which is another class at random, and which these are."""
    generator = np.random.default_rng(seed)
    count = round(share * len(examples))
    wrong = generator.choice(len(examples), count, replace=False)
    num_classes = len(examples.class_names)
    labels = examples.labels.copy()
    labels[wrong] = (labels[wrong] + generator.integers(1, num_classes, count)) % num_classes
    is_wrong = np.zeros(len(examples), bool)
    is_wrong[wrong] = True
    return labels, is_wrong


if __name__ == "__main__":
    main(sys.argv[1:])
