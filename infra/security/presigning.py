"""Single objects of a bucket for those who hold no credentials: signatures of AWS Signature Version 4, many at once.

A read is a presigned GET. A write is a form upload (POST) whose policy names exactly one key and bounds the object's
size. A presigned PUT would be shorter, and lets more through: on servers that, unlike AWS, accept headers that were
not signed (JuiceFS's gateway, by MinIO's code), `x-amz-copy-source` makes it copy any object of the bucket to where its
holder can read it. Nor is a policy with a prefix of keys safe there: `a/../b` begins with `a/` and is written to `b`.

All signatures of an `Access` are of one second, and share all but the key; so an object costs a key and 64 digits. The
signing is written out here, because botocore takes the time itself for each; a test compares it with botocore's.
Nothing here reads a credential or talks to anyone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from data_catalog.access import Access

if TYPE_CHECKING:
    from collections.abc import Iterable

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST_SECONDS = 7 * 24 * 3600  # that a signature of version 4 may live
NOTED = "x-amz-meta-sha256"  # beside an object: the digest of its bytes, see `infra/transfer.py`


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and for which bucket."""

    bucket: str
    url: str  # of the bucket, as those who will hold the signatures reach it
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)  # of credentials that expire themselves


def sign_access(
    signer: Signer,
    reads: Iterable[str],
    writes: Iterable[str],
    now: float,
    seconds: int,
    most_bytes: int,
    outbox: str = "",
    delivers: Iterable[str] = (),
) -> Access:
    """Access to these objects.

    Args:
        signer: whose credentials.
        reads: keys that may be read.
        writes: keys that may be written, whole and as often as wanted.
        now: seconds since 1970.
        seconds: how long; at most `LONGEST_SECONDS`.
        most_bytes: of an object that is written.
        outbox: the folder of those of `writes` that are for objects whose names are not known, and
        delivers: how their names may begin.
    """
    moment = datetime.fromtimestamp(int(now), UTC)
    seconds = min(seconds, LONGEST_SECONDS)
    stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    scope = f"{day}/{signer.region}/s3/aws4_request"
    credential = f"{signer.access_key}/{scope}"
    token = {"X-Amz-Security-Token": signer.session_token} if signer.session_token else {}
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": credential,
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
    }
    signing_key = f"AWS4{signer.secret_key}".encode()
    for part in (day, signer.region, "s3", "aws4_request"):
        signing_key = _hmac(signing_key, part)
    until = int(now) + seconds
    access = Access(
        bucket=signer.bucket,
        url=signer.url,
        until=until,
        read=urlencode(query | token | {"X-Amz-SignedHeaders": "host"}, quote_via=quote, safe=""),
        reads={},
        form={"x-amz-algorithm": ALGORITHM, "x-amz-credential": credential, "x-amz-date": stamp}
        | {name.lower(): value for name, value in token.items()},
        expiration=datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        most_bytes=most_bytes,
        writes={},
        outbox=outbox,
        delivers=tuple(sorted(delivers)),
    )

    def of_read(key: str) -> str:
        place = urlsplit(f"{signer.url}/{_path(key)}")
        request = f"GET\n{place.path}\n{access.read}\nhost:{place.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        return _hmac(signing_key, f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()

    def of_write(key: str) -> str:
        return _hmac(signing_key, _policy(access, key)).hex()

    return access.model_copy(
        update={
            "reads": {key: of_read(key) for key in sorted(set(reads))},
            "writes": {key: of_write(key) for key in sorted(set(writes))},
        }
    )


def read_url(access: Access, key: str) -> str:
    """The address of a read that `access` has."""
    return f"{access.url}/{_path(key)}?{access.read}&X-Amz-Signature={access.reads[key]}"


def write_form(access: Access, key: str, digest: str) -> dict[str, str]:
    """The fields of a write that `access` has, the file itself left out; sent to `access.url`.

    Args:
        access: what the coordinator signed.
        key: of the object.
        digest: SHA-256 of its bytes, to be noted beside it.
    """
    signed = {"policy": _policy(access, key), "x-amz-signature": access.writes[key]}
    return {"key": key, **access.form, NOTED: digest, **signed}


def _policy(access: Access, key: str) -> str:
    """What a write may be, Base64; made anew where it is needed, from what all writes share."""
    conditions: list[object] = [
        {"bucket": access.bucket},
        {"key": key},
        ["content-length-range", 0, access.most_bytes],
        ["starts-with", f"${NOTED}", ""],
        *({name: value} for name, value in access.form.items()),
    ]
    return base64.b64encode(json.dumps({"expiration": access.expiration, "conditions": conditions}).encode()).decode()


def _path(key: str) -> str:
    return quote(key, safe="/~")


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
