"""What a product is of, against what is asked: each difference by its name and both values."""

import pytest

from search.errors import UserError
from search.identity import check_same, digest


def test_records_that_differ_are_told_field_by_field():
    result = {"seed": 0, "recipe": {"lr": 0.1, "epochs": 3}, "classes": ["a", "b"]}
    check_same(result, {"seed": 0, "recipe": {"epochs": 3, "lr": 0.1}, "classes": ("a", "b")}, "x")
    with pytest.raises(UserError) as caught:
        check_same(
            result, result | {"seed": 1, "recipe": {"lr": 0.2, "epochs": 3, "ema": 0.9}}, "out holds another run"
        )
    assert str(caught.value) == (
        "out holds another run: seed is 0, not 1; recipe.lr is 0.1, not 0.2; recipe.ema is unknown, not 0.9"
    )
    with pytest.raises(UserError, match="older is 1, not unknown"):
        check_same(result | {"older": 1}, result, "x")
    with pytest.raises(UserError, match="of an earlier version"):
        check_same(None, result, "x")
    with pytest.raises(UserError, match=r"x: it is 3, not \{"):
        check_same(3, result, "x")


def test_a_message_stays_a_line_however_much_differs():
    with pytest.raises(UserError) as caught:
        check_same({}, {f"field {k}": "x" * 1000 for k in range(20)}, "x")
    assert len(str(caught.value)) < 400 and "and 17 more" in str(caught.value)


def test_a_digest_is_of_the_value_alone():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
