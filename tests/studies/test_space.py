import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import UserError
from cifar_jax.studies import space

words = st.text("abc01.,\"' ()=", min_size=1).map(str.strip).filter(bool)


def test_all_combinations_of_values_are_tried_in_order():
    varied = space.read(["learning_rate=0.1, 0.2", "batch_size=8,16"], {})
    assert space.is_grid(varied)
    assert space.grid(varied) == [
        {"learning_rate": rate, "batch_size": size}
        for rate in ("0.1", "0.2")
        for size in ("8", "16")
    ]
    assert space.grid(space.read([], {})) == [{}]


@given(st.lists(words, min_size=1, unique=True))
def test_every_value_can_be_quoted_as_in_csv(values):
    if any(value.count("(") != value.count(")") for value in values):
        return
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="").writerow(values)
    varied = space.read([f"model={file.getvalue()}"], {})
    assert [setting["model"] for setting in space.grid(varied)] == values


def test_ranges_have_ends():
    texts = ["learning_rate=log(0.01, 1)", "seeds=int(1,3)", "model=a,b"]
    varied = space.read(texts, {"recipe": "{seeds}"})
    assert not space.is_grid(varied)
    assert space.corners(varied) == [
        {"learning_rate": "0.01", "seeds": "1", "model": "a"},
        {"learning_rate": "1.0", "seeds": "1", "model": "a"},
        {"learning_rate": "0.01", "seeds": "3", "model": "a"},
        {"learning_rate": "0.01", "seeds": "1", "model": "b"},
    ]


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.floats(0, 1))
def test_drawn_numbers_stay_in_their_range_as_text(low, factor, place):
    high = low * factor
    distribution = space.read([f"learning_rate=uniform({low}, {high})"], {})[
        "learning_rate"
    ]
    text = space.as_text(distribution, low + place * (high - low))
    assert low <= float(text) <= high
    assert space.as_value(distribution, text) == float(text)


def test_values_outside_a_range_are_none():
    varied = space.read(
        ["learning_rate=log(0.01, 1)", "batch_size=int(8,16)", "model=a,b"], {}
    )
    for name, good, *bad in (
        ("learning_rate", "0.1", "2.0", "0.0", "high"),
        ("batch_size", "8", "7", "8.5"),
        ("model", "b", "c"),
    ):
        assert str(space.as_value(varied[name], good)) == good
        assert [space.as_value(varied[name], text) for text in bad] == [None] * len(bad)


def test_words_in_braces_are_replaced():
    fixed = {"model": "wrn(depth={depth}, width={width})", "batch_size": "8"}
    varied = space.read(["depth=10,16", "width=1", "learning_rate=0.1"], fixed)
    assert space.flags(space.grid(varied)[1], fixed) == {
        "model": "wrn(depth=16, width=1)",
        "batch_size": "8",
        "learning_rate": "0.1",
    }


def test_a_search_starts_from_the_value_of_a_flag_or_in_braces():
    fixed = {"model": "wrn({depth}, {width=2})", "loss": "x({width})", "max_steps": "9"}
    texts = ["width=int(1, 4)", "depth=10,16", "max_steps=int(5, 9)", "batch_size=8"]
    varied = space.read(texts, fixed)
    assert space.starts(varied, fixed) == {"width": "2", "max_steps": "9"}
    setting = {"width": "3", "depth": "16", "max_steps": "5"}
    assert space.flags(setting, fixed) == {
        "model": "wrn(16, 3)",
        "loss": "x(3)",
        "max_steps": "5",
    }


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"model": "wrn({width=8})"}, "width=...: 8, where another flag starts the se"),
        ({"model": "a({width=1}, {width=2})"}, "{width=1} and {width=2} differ; a sea"),
        ({"model": "{width}", "max_steps": "1"}, "max_steps=...: 1, where another fl"),
    ],
)
def test_a_search_starts_within_its_ranges(fixed, message):
    texts = ["width=int(1, 4)", "max_steps=int(5, 9)"]
    with pytest.raises(UserError, match=message):
        space.starts(space.read(texts, fixed), fixed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate", "is not of the form SETTING=VALUES"),
        ("learning_rat=1", "there is no setting 'learning_rat', and no flag with {le"),
        ("seed=0,1", "use --seeds for seed"),
        ("train_dir=a,b", "use --study_dir for train_dir"),
        ("model=wrn(16, 4)", "unbalanced parentheses; put a value that"),
        ("model=a,b,a", "has a value twice; write it once"),
        ('model="a', "is not a list of values"),
        ("learning_rate=log(1, 0.1)", "must have two numbers, the lower one first"),
        ("learning_rate=log(0, 1)", "must be above 0, for logarithms to exist"),
        ("learning_rate=log(1, inf)", "must have two numbers"),
        ("max_steps=int(1, 2.5)", "must have two integers"),
    ],
)
def test_what_cannot_be_varied_is_an_error(text, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        space.read([text], {})


def test_a_setting_is_named_once():
    with pytest.raises(UserError, match="model is named twice; name it once"):
        space.read(["model=a", "model=b"], {})
