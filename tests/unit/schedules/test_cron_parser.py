"""The grammar of crontab fields: what is read, what is refused and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.schedules import ParseException, crontab, crontab_parser

MINUTES, HOURS, WEEKDAYS, MONTHDAYS, MONTHS = (60, 0), (24, 0), (7, 0), (31, 1), (12, 1)


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        (MINUTES, "*", range(60)),
        (MINUTES, "7", [7]),
        (MINUTES, "05", [5]),
        (MINUTES, "*/15", [0, 15, 30, 45]),
        (MINUTES, "*/100", [0]),
        (MINUTES, "1 , 2", [1, 2]),
        (MINUTES, "5-5", [5]),
        (MINUTES, "10-20/5", [10, 15, 20]),
        (MINUTES, "0,30-32,*/20", [0, 20, 30, 31, 32, 40]),
        (HOURS, "22-4", [22, 23, 0, 1, 2, 3, 4]),
        (HOURS, "22-4/2", [22, 0, 2, 4]),
        (HOURS, "*/2,*/3", [0, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 22]),
        (WEEKDAYS, "mon-fri", [1, 2, 3, 4, 5]),
        (WEEKDAYS, "fri-mon", [5, 6, 0, 1]),
        (WEEKDAYS, "MONDAY,wed", [1, 3]),
        (MONTHDAYS, "*/3", [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]),
        (MONTHS, "*/2", [1, 3, 5, 7, 9, 11]),
        (MONTHS, "2-12/2", [2, 4, 6, 8, 10, 12]),
        (MONTHS, "jan-mar,September", [1, 2, 3, 9]),
    ],
)
def test_reads(kind: tuple[int, int], text: str, values: list[int]) -> None:
    assert crontab_parser(*kind).parse(text) == set(values)


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (MINUTES, "", "empty part"),
        (MINUTES, "5,", "empty part"),
        (MINUTES, "1,,2", "empty part"),
        (MINUTES, "60", "60 is out of the range 0-59"),
        (MINUTES, "3-70", "70 is out of the range"),
        (MINUTES, "-3", "negative"),
        (MINUTES, "3-", "not a number"),
        (MINUTES, "1-5-9", "not a number"),
        (MINUTES, "5/10", "needs a range"),
        (MINUTES, "*/0", "above zero"),
        (MINUTES, "*/x", "above zero"),
        (MINUTES, "**", "not a number"),
        (MINUTES, "1.5", "not a number"),
        (MINUTES, "?", "not a number"),
        (MINUTES, "mon", "not a number"),
        (MINUTES, "\u0663", "not a number"),
        (WEEKDAYS, "7", "Sunday is 0"),
        (WEEKDAYS, "mo", "such as 'mon'"),
        (WEEKDAYS, "monkey", "such as 'mon'"),
        (MONTHDAYS, "0", "range 1-31"),
        (MONTHDAYS, "L", "not a number"),
    ],
)
def test_refuses(kind: tuple[int, int], text: str, complaint: str) -> None:
    with pytest.raises(ParseException, match=complaint):
        crontab_parser(*kind).parse(text)


@given(st.sampled_from([MINUTES, HOURS, WEEKDAYS, MONTHDAYS, MONTHS]), st.data())
def test_a_set_written_out_is_read_back(kind: tuple[int, int], data: st.DataObject) -> None:
    size, low = kind
    values = data.draw(st.sets(st.integers(low, low + size - 1), min_size=1))
    assert crontab_parser(*kind).parse(",".join(map(str, values))) == values


@given(
    st.sampled_from([MINUTES, HOURS, WEEKDAYS, MONTHDAYS, MONTHS]),
    st.text("0123456789*/-, amonjeb", max_size=12),
)
def test_any_text_gives_values_in_range_or_a_parse_error(kind: tuple[int, int], text: str) -> None:
    size, low = kind
    try:
        values = crontab_parser(*kind).parse(text)
    except ParseException:
        return
    assert values
    assert values <= set(range(low, low + size))


def test_a_parse_error_names_the_argument() -> None:
    with pytest.raises(ParseException, match=r"crontab\(hour='25'\): '25': 25 is out of the range 0-23"):
        crontab(hour="25")


@pytest.mark.parametrize("given", [5.0, None, b"5", {"1", "2"}, [1, None]])
def test_only_numbers_text_and_collections_of_numbers(given: object) -> None:
    with pytest.raises(TypeError, match="give a number"):
        crontab(minute=given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"minute": 60}, "out of the range 0-59"),
        ({"minute": -1}, "out of the range 0-59"),
        ({"hour": (25,)}, "out of the range 0-23"),
        ({"day_of_week": 7}, "out of the range 0-6"),
        ({"day_of_month": 0}, "out of the range 1-31"),
        ({"minute": ()}, "never be due"),
        ({"day_of_month": 30, "month_of_year": "feb"}, "have no day 30"),
        ({"day_of_month": 31, "month_of_year": "4,6"}, "have no day 31"),
    ],
)
def test_refuses_what_never_comes(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        crontab(**fields)  # type: ignore[arg-type]


def test_from_string_has_the_order_of_a_crontab_line() -> None:
    assert crontab.from_string("  30 4   1 jan mon") == crontab(30, 4, "mon", 1, "jan")
    with pytest.raises(ParseException, match="4 fields"):
        crontab.from_string("* * * *")
    with pytest.raises(ParseException, match="1 fields"):
        crontab.from_string("@daily")
