"""What a scorer is asked and what it answers.

A request names a user, says in which context (the context features, by the log's own names) and when, and lists the
candidates, each an item id beside its candidate features. The user's past comes with the request as `history`, or from
the history store. Answers come in the order asked. Ids may be text or whole numbers, whatever the log has; times are
seconds since 1970 in UTC, or ISO 8601 with an offset. A column that is left out or null counts as missing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict

from musenet.dataset.texts import LONGEST_ID
from musenet.errors import RequestError
from musenet.options import reason
from musenet.recipe.history import Kind
from musenet.serving.scorer.rows import MOST_COLUMNS, MOST_MISTAKES, Rows, few_columns

LONGEST_TEXT = 4096
MOST_CANDIDATES, MOST_EVENTS, MOST_ITEMS, MOST_VALUES = 10_000, 10_000, 10_000, 10_000
MOST_EVENTS_AT_ONCE = 1000
ITEM = "item"
"""The one key of a candidate that is no column of the log."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_TIME, LAST_TIME = -62_135_596_800.0, 253_402_300_799.0


def _seconds(value: object) -> object:
    """ISO 8601 text as seconds since 1970; numbers as they are."""
    if not isinstance(value, str):
        return value
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is no time: give seconds since 1970, or for example 2026-01-31T12:00:00+01:00") from None
    if parsed.tzinfo is None:
        raise ValueError("lacks its offset from UTC: write for example 2026-01-31T12:00:00+01:00, or ...Z")
    return (parsed - EPOCH) / timedelta(seconds=1)


Text = Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST_ID)]
Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**64)]
Id = Annotated[Text | Whole, Field(union_mode="left_to_right", description="an id of the log, as text or whole number")]
Time = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float | str),
    Field(
        strict=True,  # `true` is no time
        ge=FIRST_TIME,
        le=LAST_TIME,
        allow_inf_nan=False,
        description="seconds since 1970 in UTC, or ISO 8601 with an offset",
    ),
]
Word = Annotated[str, Field(strict=True, max_length=LONGEST_TEXT)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Integer = Annotated[int, Field(strict=True)]
Truth = Annotated[bool, Field(strict=True)]
Single = Word | Integer | Number | Truth
Column = Annotated[
    Single | Annotated[list[Single | None], Field(max_length=MOST_VALUES, fail_fast=True)] | None,
    Field(description="a value of a column of the log; null where missing", union_mode="left_to_right"),
]
Columns = Annotated[dict[str, Column], Field(max_length=MOST_COLUMNS), BeforeValidator(few_columns)]


class Message(BaseModel):
    """A part of a request; keys that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_most_unknown_keys(cls, content: object) -> object:
        """As many unknown keys as a refusal names."""
        if not isinstance(content, dict) or len(content) <= len(cls.model_fields):
            return content
        unknown = islice((key for key in content if key not in cls.model_fields), MOST_MISTAKES)
        return {key: content[key] for key in (*(cls.model_fields.keys() & content.keys()), *unknown)}


class WithColumns(BaseModel):
    """A part of a request that holds columns of the log beside its own keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Column] = Field(init=False)

    @property
    def columns(self) -> dict[str, Any]:
        """The log's columns that were given, by their names."""
        return self.__pydantic_extra__


class Event(WithColumns):
    """Something the user did: its item, kind and time, and its attributes by the log's own names."""

    item: Id | None = None
    kind: Annotated[Kind, Field(max_length=LONGEST_ID)] | None = None
    time: Time | None = None


@with_config(extra="allow")
class Candidate(TypedDict, extra_items=Column):  # type: ignore[call-arg]  # of PEP 728, which mypy does not know yet
    """An item to be scored, with its candidate features by the log's own names."""

    # A request has hundreds: as dictionaries they are checked in half of the time that objects take.
    item: Id


class NewItem(WithColumns):
    """An item that the export does not know, or knows otherwise: its id and attributes by the log's own names."""

    item: Id


class ScoreRequest(Message):
    """A user, a context and candidates to be scored."""

    user: Id
    context: Columns = {}
    time: Time | None = Field(None, description="when the candidates are shown; now, if left out")
    candidates: Annotated[list[Candidate], Rows(1, MOST_CANDIDATES)]
    history: Annotated[list[Event], Rows(0, MOST_EVENTS)] | None = Field(
        None, description="what the user did before, oldest first; from the history store, if left out"
    )
    explain: Annotated[bool, Field(strict=True)] = Field(False, description="also say why")
    request: Id | None = Field(
        None, description="this request's id, where the mix of scenarios is followed; made here, if left out"
    )
    shown: Annotated[bool, Field(strict=True)] = Field(
        True, description="whether the user sees the candidates: answers to what nobody saw are not waited for"
    )


class Unknown(BaseModel):
    """What of a request the model had never seen; it is served through the rows of unseen and missing values."""

    user: int = Field(0, description="1 if the user is unseen")
    items: int = Field(0, description="how many candidates' items are unseen")
    values: dict[str, int] = Field({}, description="by column, how many values training did not keep")
    missing: dict[str, int] = Field({}, description="by column, how many values were left out or null")


class CandidateExplanation(BaseModel):
    """Why a candidate got its score."""

    repeat: bool = Field(description="whether the user had it before: then the repeat score counts, else the explore")
    repeat_count: int = Field(description="how often")
    repeat_score: float | None = Field(None, description="logit of its repeat branch, mean over scenarios")
    explore_score: float | None = Field(None, description="logit of its explore branch, mean over scenarios")
    scenarios: list[float] | None = Field(
        None,
        description="P(click) in each scenario; weighted by the request's shares they sum to the score. Where that is "
        "recalibrated, corrected for sampled negatives, or of a mix that is followed, all are moved alike, in logits",
    )


class ScoreResponse(BaseModel):
    """Scores in the order asked; scenarios and candidates where an explanation was asked for and the model has them."""

    scores: list[float] = Field(description="P(click) of each candidate")
    scenarios: list[float] | None = Field(None, description="share of each scenario in this request, sum 1")
    scenario_names: list[str] | None = Field(None, description="what the scenarios are called")
    repeat_probability: float | None = Field(None, description="that the user repeats, mean over scenarios")
    candidates: list[CandidateExplanation] | None = None
    model: str = Field(description="which model answered: the experiment's name and the weights' checksum")
    unknown: Unknown
    request: str | None = Field(
        None, description="where the mix of scenarios is followed: the id that events name as theirs to answer it"
    )


class NewEvent(Event):
    """Something that a user did, to be kept."""

    user: Id
    id: Id | None = Field(
        None, description="makes it the same event when it is sent again; its content does, if left out"
    )
    time: Time | None = Field(None, description="when it happened; now, if left out")
    request: Id | None = Field(None, description="the scored request that it answers: its item was taken")


class Events(Message):
    """Events in any order; late ones land in their place."""

    events: Annotated[list[NewEvent], Rows(1, MOST_EVENTS_AT_ONCE)]


class EventsKept(BaseModel):
    """All events that count are kept when this is answered."""

    events: int = Field(description="how many were sent")
    new: int = Field(description="how many of them were not known before")
    ignored: int = Field(description="how many of them are of a kind that counts nowhere, and are not kept")
    answered: int = Field(description="how many of them answer a request that waits for it")


class NewItems(Message):
    """Items whose attributes the model shall know."""

    items: Annotated[list[NewItem], Rows(1, MOST_ITEMS)]


class ItemsKept(BaseModel):
    """The items are known to every request from now on."""

    items: int


class Forgotten(BaseModel):
    """Nothing that the store knew of the user is there any more."""

    forgotten: bool = Field(description="whether there was anything")


class Mistake(BaseModel):
    """What is wrong with a request."""

    field: str = Field(description="where, such as `candidates.3.price`")
    reason: str


class Mistakes(BaseModel):
    """Why a request was refused."""

    errors: list[Mistake]


def seconds_of(text: str, field: str) -> float:
    """A time of ISO 8601 as seconds since 1970; raises `RequestError` naming the field."""
    try:
        return float(TypeAdapter(Time).validate_python(text))
    except ValidationError as error:
        raise RequestError(field, reason(error)) from error


_COLUMN = f"takes text of up to {LONGEST_TEXT} characters, a finite number, true, false, null, or a list of these"
ID_WANTED = f"takes an id: text of 1 to {LONGEST_ID} characters, or a whole number"
_DEPTHS = {"candidates": 3, "history": 3, "items": 3, "events": 3, "context": 2}


def request_error(error: ValidationError) -> RequestError:
    """What is wrong with a message: its first mistake, by the name of the field."""
    return request_errors(error)[0]


def request_errors(error: ValidationError) -> list[RequestError]:
    """What is wrong with a message: its first mistakes, one for each field, by the name of the field."""
    found: dict[str, RequestError] = {}
    for one in error.errors(include_url=False, include_input=False):
        wrong = _mistake(one["loc"], one["msg"].removeprefix("Value error, "))
        found.setdefault(wrong.field, wrong)
    return list(found.values())[:MOST_MISTAKES]


def _mistake(place: Sequence[str | int], why: str) -> RequestError:
    """The mistake that pydantic found at a place, by the name of the field."""
    names = [str(part) for part in place[: _DEPTHS.get(str(place[0]), 1) if place else 0]]
    union = len(place) > len(names)
    if union and names[-1] in ("item", "user", "id"):
        return RequestError(".".join(names), ID_WANTED)
    return RequestError(".".join(names) or "request", _COLUMN if union else _lowered(why))


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
