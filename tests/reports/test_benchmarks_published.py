"""The table of published results: what every row must have, and which row stands beside one of ours."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from harness import registry
from harness.errors import DfkdError
from harness.nets import catalog
from harness.settings import resolve
from harness.tasks.catalog import TASKS
from reports.numbers import published
from reports.numbers.published import Published, load, match
from tests.build import write

ROWS = load()
#: data sets that are no built-in task, as the table calls them; "" where the source does not say
OTHER_TASKS = {
    "aircraft", "caltech101", "cars", "cifar100_lt", "cub200", "imagenet", "imagenet200", "places365", "svhn",
    "tiny_imagenet_lt", "",
}  # fmt: skip
OTHER_NETS = {"resnet50", "mobilenetv2", "hintonnet", "hintonnet_half", ""}
R34 = {"teacher": "resnet34", "student": "resnet18"}
WRN = {"teacher": "wrn40_2", "student": "wrn16_1"}


def row(**more: object) -> Published:
    fields: dict[str, object] = {
        "method": "m", "task": "cifar10", "teacher": "a", "student": "b", "pair": "stated", "metric": "top1",
        "value": 90.0, "teacher_top1": 95.0, "source": "a table", "note": "", "suspect": "",
    }  # fmt: skip
    return Published(**(fields | more))  # type: ignore[arg-type]


# --- the table ----------------------------------------------------------------------------------


def test_every_row_has_a_source_and_names_that_are_known():
    assert len(ROWS) > 700
    ours = set(registry.methods.names())
    for r in ROWS:
        assert r.source.strip() and r.printed.strip(), r
        assert r.task in TASKS or r.task in OTHER_TASKS, r
        for net in (r.teacher, r.student):
            assert net in catalog.nets.names() or net in OTHER_NETS, r
        for other in ours:  # a method of ours goes by its registered name alone
            assert r.method == other or r.method.lower() != other, r
    assert {"cpsc", "dafl", "zskt", "dfad", "adi", "dfq", "cmi", "fast", "kd", "scratch", "noise"} <= {
        r.method for r in ROWS
    }


def test_settings_are_those_of_the_method_and_legal():
    for r in ROWS:
        if r.settings:
            cls = registry.methods.get(r.method)
            assert published.agrees(r, resolve(r.method, cls.HP, cls.PRESETS, r.settings)), r


def test_a_number_of_our_methods_names_the_settings_it_is_of():
    """Else an ablation of ours would stand beside it."""
    unnamed = {
        r.method
        for r in ROWS
        if r.task in TASKS and r.pair != "unknown" and r.metric == "top1" and not r.settings
    } & set(registry.methods.names())
    assert unnamed == {"kd", "scratch"}


def test_no_student_without_data_is_well_above_its_teacher():
    """Such a number would be a copying error until shown otherwise."""
    for r in ROWS:
        if r.metric == "top1" and r.teacher_top1 and r.method not in ("scratch", "kd", "teacher"):
            assert r.value <= r.teacher_top1 + 0.3, r


def test_what_is_doubted_says_why():
    doubted = [r for r in ROWS if r.suspect]
    kd = [r for r in doubted if r.method == "kd"]
    assert [(r.value, r.task) for r in kd] == [(95.2, "cifar10")] * 5
    pairs = {
        (r.method, r.task) for r in doubted if r.source.startswith("CMI README") and r.student == "resnet18"
    }
    both = {(m, task) for m in ("dafl", "zskt", "dfq") for task in ("cifar10", "cifar100")}
    assert pairs == both | {("adi", "cifar10"), ("scratch", "cifar100")}
    assert all(len(r.suspect) > 20 for r in doubted)


def test_a_copy_says_whose_number_it_is_or_is_doubted():
    assert not [r for r in ROWS if r.kind == "copy" and not (r.copied_from or r.suspect)]
    own = {
        (r.task, r.teacher, r.student, r.method, r.value) for r in ROWS if r.source.startswith("CMI README")
    }
    for r in ROWS:
        if r.copied_from == "CMI README" and not r.suspect and r.metric == "top1" and r.method != "kd":
            assert (r.task, r.teacher, r.student, r.method, r.value) in own, r


def test_conflicts_between_sources_stay_visible():
    found = match(ROWS, method="zskt", task="cifar100", teacher="wrn40_2", student="wrn16_2")
    told = [r for r in (found.best, *found.conflicts) if r and r.kind == "rerun"]
    assert {(r.value, r.source.split(" README")[0]) for r in told} == {(28.44, "CMI"), (54.59, "MosaicKD")}


def test_mnist_has_the_two_tables():
    def values(source: str) -> dict[str, float]:
        return {
            r.method: r.value
            for r in ROWS
            if (r.task, r.student) == ("mnist", "lenet5_half") and r.source.startswith(source)
        }

    assert values("DAFL README") == {
        "scratch": 98.65, "kd": 98.91, "noise": 88.01, "KD on USPS": 94.56, "Meta data": 92.47, "dafl": 98.2,
    }  # fmt: skip
    assert values("DFAD README") == {
        "kd": 98.8, "KD on related data": 96.0, "KD on unrelated data": 95.7, "noise": 74.7, "dafl": 98.1,
        "dfad": 98.3,
    }  # fmt: skip


def test_the_file_is_plain_text_in_a_fixed_form():
    raw = published.file().read_bytes()
    assert b"\r" not in raw and raw.endswith(b"\n")
    text = raw.decode()
    rows = list(csv.reader(text.splitlines()))
    assert tuple(rows[0]) == published.COLUMNS and {len(r) for r in rows} == {len(published.COLUMNS)}
    assert text.splitlines()[ROWS[0].line - 1].startswith("cpsc,")


# --- matching -----------------------------------------------------------------------------------


def test_what_cpsc_calls_its_gain_is_a_footnote():
    gain = match(ROWS, method="cpsc", task="cifar100", metric="top1_gain", **R34)
    assert gain.best is None and [r.value for r in gain.footnotes] == [0.54]


def test_the_authors_own_number_comes_first():
    found = match(ROWS, method="dafl", task="cifar10", **R34)
    assert found.best and found.best.source.startswith("DAFL README") and found.best.teacher_top1 == 95.58
    assert {88.5, 93.27, 92.41} == {r.value for r in found.conflicts}
    found = match(ROWS, method="zskt", task="cifar10", **WRN)
    assert found.best and (found.best.value, found.best.seeds) == (83.69, 3)


def test_a_doubted_number_is_the_last_resort():
    found = match(ROWS, method="zskt", task="cifar10", **R34)
    assert found.best and found.best.value == 93.05, "mmrazor's re-run, not the copy of DFAD's number"
    found = match(ROWS, method="dfq", task="cifar10", **R34)
    assert found.best and (found.best.value, bool(found.best.suspect)) == (94.61, True)
    assert found.others[-1].kind == "issue" and found.others[-1].value == 88.89
    found = match(ROWS, method="kd", task="cifar10", **R34)
    assert found.best and found.best.value == 94.34 and found.others[-1].value == 95.2


def test_settings_choose_between_a_methods_versions():
    def best(settings: dict[str, object]) -> float | None:
        found = match(ROWS, method="zskt", task="cifar10", settings=settings, **WRN).best
        return found and found.value

    assert best({"protocol": "authors", "at": 250.0}) == 83.69
    assert best({"protocol": "datafree", "at": 0.0}) == 83.74
    assert best({"protocol": "authors", "at": 0.0}) is None, "an ablation is nobody's published row"
    fast = {"meta": "fomaml", "bn": 10.0, "adv": 1.1, "oh": 0.4}
    for k, value in ((2, 88.36), (5, 88.90), (10, 89.29)):
        found = match(ROWS, method="fast", task="cifar10", settings=fast | {"g_steps": k}, **WRN)
        assert found.best and found.best.value == value
        assert {r.value for r in found.conflicts} == {88.36, 88.90, 89.29} - {value}


def test_scratch_has_no_teacher_and_a_teacher_no_student():
    found = match(ROWS, method="scratch", task="cifar100", teacher="vgg11", student="resnet18")
    assert found.best and found.best.value == 77.1 and found.best.teacher_top1 is None
    assert {r.value for r in found.conflicts} == {76.53, 77.01}
    found = match(ROWS, method="teacher", task="cifar10", **R34)
    assert {95.58, 95.7, 95.42, 95.34} < {r.value for r in (found.best, *found.others) if r}


def test_the_order_of_witnesses():
    kinds = [
        row(value=1, kind="issue"), row(value=2, kind="copy", suspect="x"), row(value=3, kind="copy"),
        row(value=4, kind="secondary"), row(value=5, kind="rerun", selection="best"),
        row(value=6, kind="rerun", selection="last"), row(value=7, kind="rerun", seeds=3),
        row(value=8, kind="own", suspect="x"), row(value=9, kind="own"),
    ]  # fmt: skip
    found = match(kinds, method="m", task="cifar10", teacher="a", student="b")
    assert [r.value for r in (found.best, *found.others) if r] == [9, 7, 6, 5, 4, 3, 8, 2, 1]
    alone = match(kinds[:1], method="m", task="cifar10", teacher="a", student="b")
    assert alone == (None, (kinds[0],), ()), "a user's report is no measure"
    assert match(kinds, method="m", task="cifar10", teacher="a", student="c") == (None, (), ())
    unknown = replace(kinds[-1], pair="unknown")
    assert match([unknown], method="m", task="cifar10", teacher="a", student="b") == (None, (), (unknown,))


def test_settings_agree_by_number_or_by_word():
    wanted = row(settings={"at": "250", "protocol": "authors", "m": "none"})
    assert published.agrees(wanted, {"at": 250.0, "protocol": "authors", "m": None, "more": 1})
    assert not published.agrees(wanted, {"at": 251, "protocol": "authors", "m": None})
    assert not published.agrees(wanted, {"protocol": "authors", "m": None}), "a method without the setting"


# --- a table of one's own -----------------------------------------------------------------------

GOOD = "m,,cifar10,a,b,stated,top1,90.1,95,best,3,0.2,80000,own,,a table,M,a note,"
WRONG = {
    GOOD.replace("90.1", "x"): "line 2: value = 'x' is not a number",
    GOOD.replace("90.1", ""): "line 2: value is empty",
    GOOD.replace("90.1", "nan"): "line 2: value = nan is not between 0 and 100",
    GOOD.replace("90.1", "101"): "line 2: value = 101 is not between 0 and 100",
    GOOD.replace("95", "-1"): "line 2: teacher_top1 = -1 is not between 0 and 100",
    GOOD.replace("a table", " "): "line 2: source is empty",
    GOOD.replace("stated", "sttaed"): "unknown pair in .*, line 2: 'sttaed'; did you mean 'stated'",
    GOOD.replace("top1", "top-1"): "unknown metric in .*, line 2: 'top-1'; did you mean 'top1'",
    GOOD.replace("own", "mine"): "unknown kind in .*, line 2: 'mine'",
    GOOD.replace(",a,b,", ",a,,"): "line 2: pair = 'stated', yet task, teacher or student is empty",
    GOOD.replace("own,,", "own,CMI,"): "line 2: copied_from = 'CMI', yet kind = 'own'",
    GOOD.replace("m,,", "m,adv,"): "line 2: settings = 'adv' is not NAME=VALUE; NAME=VALUE",
    GOOD + ",more": "line 2: not 19 fields; put a text with a comma in quotes",
    "m,,cifar10": "line 2: not 19 fields",
    GOOD + "\n" + GOOD.replace("a note", "another note"): "line 3 repeats line 2",
}


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(",".join(published.COLUMNS) + "\n" + text + "\n")
    return path


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_row_is_one_line_that_names_file_and_line(tmp_path, text):
    with pytest.raises(DfkdError, match=WRONG[text]) as caught:
        load(table(tmp_path, text))
    assert "table.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_good_row_is_read_as_it_stands(tmp_path):
    (found,) = load(table(tmp_path, GOOD.replace("m,,", "m,adv=1; k = two,")))
    assert found == row(
        value=90.1, settings={"adv": "1", "k": "two"}, printed="M", kind="own", selection="best", seeds=3,
        spread=0.2, updates=80_000, note="a note", line=2,
    )  # fmt: skip


def test_a_file_that_is_no_table_is_one_line(tmp_path):
    with pytest.raises(DfkdError, match=r"line 1: the columns must be method, settings"):
        load(write(tmp_path, {"a.csv": b"method,value\n"}) / "a.csv")
    with pytest.raises(DfkdError, match="cannot be read"):
        load(tmp_path / "none.csv")
    with pytest.raises(DfkdError, match="cannot be read"):
        load(write(tmp_path, {"b.csv": b"\xff\xfe"}) / "b.csv")
