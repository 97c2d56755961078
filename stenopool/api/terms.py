"""What a caller may say of how recordings are to be transcribed, and what becomes of that: the desk's terms."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model
from pydantic.types import StringConstraints

from scheduler.channels import check_speakers
from scheduler.redaction import KINDS
from stenopool.api.caller import Caller
from stenopool.api.problem import Refused
from stenopool.config import Config
from stenopool.domain import Options
from stenopool.errors import UsageError
from stenopool.formats import FORMATS, format_of
from stenopool.options import options_of
from workers.export import destination_of
from workers.farm import Farm
from workers.hand_in import Terms

#: No database takes a NUL; of the rest, what people read is a line.
Text = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tenant = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x20\x7f]+$")]
LaneName = Literal["urgent", "normal", "bulk"]
FormatName = Annotated[
    str, AfterValidator(lambda name: format_of(name).name), Field(json_schema_extra={"enum": list(FORMATS)})
]
Kind = Annotated[str, AfterValidator(lambda kind: _kind(kind)), Field(json_schema_extra={"enum": list(KINDS)})]
Metadata = Annotated[dict[Line, Text], Field(max_length=50)]

#: Formats that are sent somewhere if none are named.
SENT = ("txt", "srt", "json")
#: Seconds.
CENTURY = 36_500 * 86_400.0


class Strict(BaseModel):
    """What a caller sends: as it is described, or it is refused. No member is accepted and ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"nothing that can be redacted; choose from {', '.join(KINDS)}")
    return kind


def _typed(kind: Any) -> Any:
    """An option's type, as JSON has it."""
    if get_origin(kind) is tuple:
        return list[_typed(get_args(kind)[0])]  # type: ignore[misc]
    if kind is str:
        return Text
    several = get_args(kind)
    if several and get_origin(kind) is not Literal:
        return _typed(several[0]) | None
    return kind


def _options_model() -> type[BaseModel]:
    hints = get_type_hints(Options)
    given: dict[str, Any] = {}
    for one in fields(Options):
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        assert default is not MISSING
        given[one.name] = (_typed(hints[one.name]), default)
    given["temperature"] = (float | list[float], given["temperature"][1])
    return create_model("Options", __config__=ConfigDict(extra="forbid", strict=True), **given)


_OPTIONS = _options_model()

#: Decoding options by their names (docs/options.md); those that are given.
OptionsGiven = Annotated[
    dict[str, Any],
    BeforeValidator(lambda value: _OPTIONS.model_validate(value).model_dump(exclude_unset=True)),
    WithJsonSchema({**_OPTIONS.model_json_schema(), "description": "Decoding options, as docs/options.md has them."}),
]


class How(Strict):
    """How recordings are to be transcribed."""

    tenant: Tenant | None = Field(None, description="Whose work it is; for an operator's key only.")
    model: Line = Field("pocket", description="An engine must have it.")
    language: Line | None = Field(None, description="Its code, or auto; the same as options.language.")
    options: OptionsGiven = Field(default_factory=dict)
    lane: LaneName = "normal"
    priority: int = Field(0, ge=-1_000_000, le=1_000_000, description="Within tenant and lane, the higher first.")
    deadline: float | None = Field(None, ge=0, le=CENTURY, description="In so many seconds; those due first go first.")
    channels: Literal["mix", "split"] = Field("mix", description="Split: a transcript of each, and one of all.")
    speakers: list[Line] = Field(
        default_factory=list, max_length=512, description="Of the channels, if they are split."
    )
    redact: list[Kind] = Field(default_factory=list, max_length=10, description="What is not for everybody.")
    destination: Line | None = Field(
        None, description="Where transcripts are sent as well: s3://bucket/prefix, or a folder; operators' keys only."
    )
    formats: list[FormatName] = Field(default_factory=list, max_length=20, description="What is sent there.")


class HandIn(How):
    """A recording that is handed in: at a URL, or as an upload that is complete."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {"source": "https://example.org/talk.mp3", "lane": "urgent", "options": {"language": "en"}}
        },
    )

    source: Url | None = Field(None, description="http(s)://; for an operator's key s3://bucket/key as well.")
    upload: Annotated[str, StringConstraints(pattern=r"^[tp]-[0-9a-f]{32}$")] | None = Field(
        None, description="The id of an upload."
    )
    name: Line | None = Field(None, description="What people call it; its files are named after it.")
    metadata: Metadata = Field(default_factory=dict, description="What else is known of it.")
    again: bool = Field(False, description="Do again what is done already.")


class HandInQuery(Strict):
    """The same of a recording that is the body: in the query."""

    model_config = ConfigDict(extra="forbid", strict=False)

    name: Line | None = None
    tenant: Tenant | None = None
    model: Line = "pocket"
    language: Line | None = None
    options: Text | None = Field(None, description="JSON: an object of options.")
    lane: LaneName = "normal"
    priority: int = Field(0, ge=-1_000_000, le=1_000_000)
    deadline: float | None = Field(None, ge=0, le=CENTURY)
    channels: Literal["mix", "split"] = "mix"
    speakers: list[Line] = Field(default_factory=list, max_length=512)
    redact: list[Kind] = Field(default_factory=list, max_length=10)
    destination: Line | None = None
    formats: list[FormatName] = Field(default_factory=list, max_length=20)
    metadata: Text | None = Field(None, description="JSON: an object of texts.")
    again: bool = False

    def as_body(self) -> HandIn:
        """As JSON would have said it. Raises UsageError, or pydantic's error."""
        given = self.model_dump(exclude_none=True)
        for name in ("options", "metadata"):
            if name in given:
                try:
                    given[name] = json.loads(given[name])
                except (ValueError, RecursionError):
                    raise UsageError(f"{name} is no JSON; write it as such: {name}={{...}}") from None
        return HandIn.model_validate(given)


def terms_of(how: How, caller: Caller, farm: Farm, config: Config, *, again: bool = False) -> Terms:
    """The terms of the desk.

    Raises:
        UsageError: they do not fit together.
        Refused: the caller may not have it so.
    """
    given = dict(how.options)
    if how.language is not None:
        if given.get("language", how.language) != how.language:
            raise UsageError("language and options.language differ; leave one of them out")
        given["language"] = how.language
    split = how.channels == "split"
    if how.speakers and not split:
        raise UsageError("speakers names channels, which are mixed; say channels: split as well")
    if how.formats and how.destination is None:
        raise UsageError("formats is what is sent to destination; name that, or ask for formats when you fetch")
    return Terms(
        tenant=caller.acts_for(how.tenant),
        model=how.model,
        options=options_of(given),
        split=split,
        speakers=check_speakers(how.speakers),
        again=again,
        destination=None if how.destination is None else _place(how.destination, caller, farm, config),
        formats=(tuple(dict.fromkeys(how.formats)) or SENT) if how.destination is not None else (),
        redact=",".join(dict.fromkeys(how.redact)) or None,
        lane=how.lane,
        priority=how.priority,
        deadline=how.deadline,
    )


def _place(given: str, caller: Caller, farm: Farm, config: Config) -> str:
    # What a farm can write to, it can write to for whoever asks: that is for those to decide who run it.
    if caller.tenant is not None:
        raise Refused(403, "destination is for operators' keys; fetch the transcripts, or have the operator send them")
    return destination_of(given, store=farm.places.store, roots=config.exports)


def own_options(options: dict[str, Any], terms: Terms) -> dict[str, Any]:
    """Of an item's options, those that are not as all have them."""
    all_have = asdict(terms.options)
    return {name: value for name, value in options.items() if value != all_have[name]}
