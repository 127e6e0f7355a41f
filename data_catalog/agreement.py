"""What coordinators agree on: who of them acts, until when, and by which token that is known."""

from __future__ import annotations

from pydantic import Field

from data_catalog.nouns import Noun


class LeaseRecord(Noun):
    """Who coordinates something; it changes by compare-and-swap alone, so all changes stand in one line."""

    token: int = Field(ge=1)  # one more with each holder, and never less
    beat: int = Field(ge=1)  # one more with each change: renewals, admitted writes, holders
    holder: str  # empty: nobody; the next one need not wait
    seconds: float = Field(gt=0)  # without a change for so long, the next one may take it
    at: float  # of the change by the holder's clock, for people; nothing is decided by it
