"""Tokens made by hand, good and bad, with real signatures: what any `TokenVerifier` is tested with."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

Claims: TypeAlias = dict[str, object]
Bad: TypeAlias = Iterator[tuple[str, str]]

GONE = object()
"""As a claim's or a header's value: leave it out."""

NUMBER = "1234567890"
"""The project's number, which App Check's tokens name beside its id."""

AUDIENCE = "https://brainstem-abcdefghij-uc.a.run.app"
"""The service that OIDC tokens are for."""

EMAIL = "tasks@demo-brainstem.iam.gserviceaccount.com"


@dataclass(frozen=True)
class TokenFactory:
    """Signs whatever it is given, in the name of a project whose key it holds."""

    private: RSAPrivateKey
    kid: str
    project: str

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def id_claims(self, **changes: object) -> Claims:
        now = int(time.time())
        claims: Claims = {
            "iss": f"https://securetoken.google.com/{self.project}",
            "aud": self.project,
            "auth_time": now - 60,
            "user_id": "ada",
            "sub": "ada",
            "iat": now - 60,
            "exp": now + 3540,
            "firebase": {"identities": {}, "sign_in_provider": "custom"},
        }
        return changed(claims, changes)

    def app_claims(self, **changes: object) -> Claims:
        now = int(time.time())
        claims: Claims = {
            "iss": f"https://firebaseappcheck.googleapis.com/{NUMBER}",
            "aud": [f"projects/{NUMBER}", f"projects/{self.project}"],
            "sub": f"1:{NUMBER}:web:abcdef",
            "iat": now - 60,
            "exp": now + 3540,
        }
        return changed(claims, changes)

    def service_claims(self, **changes: object) -> Claims:
        now = int(time.time())
        claims: Claims = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "azp": "108234567890123456789",
            "sub": "108234567890123456789",
            "email": EMAIL,
            "email_verified": True,
            "iat": now - 60,
            "exp": now + 3540,
        }
        return changed(claims, changes)

    def sign(self, claims: Claims, key: RSAPrivateKey | None = None, **header: object) -> str:
        """Sign claims with our key, or another; `header` changes the usual one."""
        return self.sign_raw(self.header(**header), json.dumps(claims).encode(), key)

    def header(self, **changes: object) -> bytes:
        return json.dumps(changed({"alg": "RS256", "kid": self.kid, "typ": "JWT"}, changes)).encode()

    def sign_raw(self, header: bytes, payload: bytes, key: RSAPrivateKey | None = None) -> str:
        message = f"{base64url(header)}.{base64url(payload)}"
        signature = (key or self.private).sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{message}.{base64url(signature)}"

    def unsigned(self, claims: Claims, **header: object) -> str:
        """Make a token as the Auth emulator makes it."""
        said = changed({"alg": "none", "typ": "JWT"}, header)
        return f"{base64url(json.dumps(said).encode())}.{base64url(json.dumps(claims).encode())}."

    def sign_hs256(self, claims: Claims, secret: bytes) -> str:
        message = f"{base64url(self.header(alg='HS256'))}.{base64url(json.dumps(claims).encode())}"
        return f"{message}.{base64url(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def new_key(bits: int = 2048) -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def bad_id_tokens(make: TokenFactory, stranger: RSAPrivateKey) -> Bad:
    """Yield (why, token) of ID tokens that must be refused; `stranger` is a key that the verifier does not know."""
    yield from bad_everywhere(make, stranger, make.id_claims)
    yield from bad_signed(make, make.id_claims, BAD_ID_CLAIMS(make.project))
    yield "a session cookie", make.sign(make.id_claims(iss=f"https://session.firebase.google.com/{make.project}"))
    yield "a tenant as the audience", make.sign(make.id_claims(aud=f"{make.project}/agency-x1y2z"))
    yield "an issuer of the old toolkit", make.sign(make.id_claims(iss="https://identitytoolkit.google.com/"))
    yield "a custom token", make.sign(make.id_claims(iss="sa@x.iam.gserviceaccount.com", aud=CUSTOM_TOKEN_AUDIENCE))


def bad_app_tokens(make: TokenFactory, stranger: RSAPrivateKey) -> Bad:
    """Yield (why, token) of App Check tokens that must be refused."""
    yield from bad_everywhere(make, stranger, make.app_claims)
    yield from bad_signed(make, make.app_claims, BAD_APP_CLAIMS(make.project))
    yield "an app of another project", make.sign(make.app_claims(**OTHER_PROJECT))
    yield "another project's issuer", make.sign(make.app_claims(iss=OTHER_PROJECT["iss"]))
    yield "no type", make.sign(make.app_claims(), typ=GONE)
    yield "a debug token's exchange", make.sign({"debug_token": "12345678-1234-4234-8234-123456789012"})


def bad_service_tokens(make: TokenFactory, stranger: RSAPrivateKey) -> Bad:
    """Yield (why, token) of OIDC tokens that must be refused by the service whose URL is `AUDIENCE`."""
    yield from bad_everywhere(make, stranger, make.service_claims)
    yield from bad_signed(make, make.service_claims, BAD_SERVICE_CLAIMS())
    yield "the audience in azp alone", make.sign(make.service_claims(aud=GONE, azp=AUDIENCE))
    yield "an access token's claims", make.sign(make.service_claims(aud=GONE, scope="openid", target=AUDIENCE))
    yield "a JWT that an account signed for itself", make.sign(make.service_claims(iss=EMAIL, sub=EMAIL))
    yield "an address without proof", make.sign(make.service_claims(email_verified=GONE))


def crossed(users: TokenFactory, apps: TokenFactory, services: TokenFactory) -> Iterator[tuple[str, str, str]]:
    """Yield (why, what it is shown as, token) of good tokens that are shown in another one's place.

    Each is shown as it is; signed anew with the key of what it is shown as; and then with that one's issuer or audience as well.
    """
    kinds = {
        "user": (users, users.id_claims),
        "app": (apps, apps.app_claims),
        "service": (services, services.service_claims),
    }
    for kind, (signer, claims) in kinds.items():
        for place, (other, theirs) in kinds.items():
            if place == kind:
                continue
            own, wanted = claims(), theirs()
            yield f"{kind} as it is", place, signer.sign(own)
            yield f"{kind}, under the other key's name", place, signer.sign(own, kid=other.kid)
            yield f"{kind}, signed with the other key", place, other.sign(own)
            yield f"{kind}, with the other issuer", place, other.sign({**own, "iss": wanted["iss"]})
            yield f"{kind}, with the other audience", place, other.sign({**own, "aud": wanted["aud"]})
            if signer != other:
                yield f"{kind}, with the claims of the other", place, signer.sign(wanted)


CUSTOM_TOKEN_AUDIENCE = "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"


def bad_everywhere(make: TokenFactory, stranger: RSAPrivateKey, claims: Callable[..., Claims]) -> Bad:
    good = make.sign(claims())
    header, payload, signature = good.split(".")
    yield from bad_text(good)
    yield from bad_encoding(make, good, claims)
    yield "a changed subject", f"{header}.{base64url(json.dumps(claims(sub='eve')).encode())}.{signature}"
    yield "a changed header", f"{base64url(make.header(typ='jwt'))}.{payload}.{signature}"
    yield "another token's signature", f"{header}.{payload}.{make.sign(claims(sub='eve')).split('.')[2]}"
    yield "a signature with one bit changed", f"{header}.{payload}.{flipped(signature)}"
    yield "a signature of zeros", f"{header}.{payload}.{base64url(bytes(256))}"
    yield "half a signature", f"{header}.{payload}.{signature[:171]}"
    yield "a stranger's key", make.sign(claims(), stranger)
    yield "a stranger's key under its own name", make.sign(claims(), stranger, kid="stranger")
    yield "a stranger's key that it brings along", make.sign(claims(), stranger, jwk=jwk(stranger))
    yield "a stranger's key at an address", make.sign(claims(), stranger, jku="https://evil.example/keys")
    yield "the public key as a shared secret", make.sign_hs256(claims(), make.public_pem)
    yield "an empty shared secret", make.sign_hs256(claims(), b"")
    yield "an emulator's token", make.unsigned(claims())
    yield "an emulator's token with a key id", make.unsigned(claims(), kid=make.kid)
    yield "an emulator's token that claims RS256", make.unsigned(claims(), alg="RS256", kid=make.kid)
    for alg in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "RS384",
        "RS512",
        "PS256",
        "ES256",
        "EdDSA",
        "rs256",
        GONE,
        None,
        256,
        ["RS256"],
    ):
        yield f"the algorithm {alg!r}", make.sign(claims(), alg=alg)
        yield f"the algorithm {alg!r} without a signature", f"{base64url(make.header(alg=alg))}.{payload}."
    for kid in (
        GONE,
        None,
        "",
        "k2",
        7,
        [make.kid],
        {"kid": make.kid},
        make.kid + " ",
        "../../" + make.kid,
        "k" * 3000,
    ):
        yield f"the key id {str(kid)[:20]}", make.sign(claims(), kid=kid)
    for extension in (["exp"], ["b64"], ["x"], [], "x", None):
        yield f"the demanded extension {extension!r}", make.sign(claims(), crit=extension, x=1)
    yield "an unencoded payload", make.sign(claims(), b64=False, crit=["b64"])
    yield "another type", make.sign(claims(), typ="at+jwt")


def bad_text(good: str) -> Bad:
    header, payload, signature = good.split(".")
    for text in (
        "",
        " ",
        ".",
        "..",
        "...",
        "a",
        "a.b",
        "a.b.c",
        "null",
        "{}",
        "Bearer",
        "undefined",
        "\0",
        "é.é.é",
        "日本.語.で",
        "\ud800",
    ):
        yield f"the text {text!r}", text
    yield "no signature", f"{header}.{payload}"
    yield "an empty signature", f"{header}.{payload}."
    yield "an empty payload", f"{header}..{signature}"
    yield "an empty header", f".{payload}.{signature}"
    yield "only its first half", good[: len(good) // 2]
    yield "all but its last character", good[:-1]
    yield "a fourth part", f"{good}.{signature}"
    yield "a token twice", good + good
    yield "two tokens", f"{good},{good}"
    yield "space before", " " + good
    yield "space after", good + " "
    yield "a line break after", good + "\n"
    yield "a line break within", f"{header}.\n{payload}.{signature}"
    yield "a NUL after", good + "\0"
    yield "base64's padding", f"{header}.{payload}.{signature}=="
    yield "a percent sign", good.replace(".", "%2E")
    yield "letters of another alphabet", good.replace("e", "е")
    yield "9 000 characters behind it", good + "A" * 9000
    yield "a megabyte", "A" * 1_000_000
    yield "a megabyte in three parts", ".".join(["A" * 333_333] * 3)
    yield "a scheme before it", f"Bearer {good}"


def bad_encoding(make: TokenFactory, good: str, claims: Callable[..., Claims]) -> Bad:
    header, payload, signature = good.split(".")
    body = json.dumps(claims()).encode()
    usual = make.header()
    yield "spare bits in base64", f"{header}.{payload}.{respelled(signature)}"
    yield "the other base64 alphabet", f"{header}.{payload}.{plus(signature)}"
    for depth in (500, 2000, 4000):
        for bomb in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * (depth // 5) + b"1" + b"}" * (depth // 5)):
            yield f"a header nested {depth} deep ({bomb[:3]!r}, {len(bomb)})", make.sign_raw(bomb, body)
            yield f"a payload nested {depth} deep ({bomb[:3]!r}, {len(bomb)})", make.sign_raw(usual, bomb)
    for text in (
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"7",
        b"{",
        b"{}x",
        b'{"v":0,"d":5}',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"1e999",
        b"{'a':1}",
    ):
        yield f"the header {text!r}", make.sign_raw(text, body)
        yield f"the payload {text!r}", make.sign_raw(usual, text)
    yield "a header in UTF-16", make.sign_raw(usual.decode().encode("utf-16"), body)
    yield "a payload in UTF-16", make.sign_raw(usual, body.decode().encode("utf-16"))
    yield (
        "a payload in Latin-1",
        make.sign_raw(usual, json.dumps(claims(name="é"), ensure_ascii=False).encode("latin-1")),
    )
    yield "two algorithms", make.sign_raw(usual[:-1] + b',"alg":"RS256"}', body)
    yield "two subjects", make.sign_raw(usual, body[:-1] + b',"sub":"eve"}')
    yield "9 000 characters, signed", make.sign(claims(x="x" * 6700))
    yield "text behind the payload", make.sign_raw(usual, body + b"x")
    yield "a number of 5 000 digits", make.sign_raw(usual, body[:-1] + b',"x":' + b"9" * 5000 + b"}")
    for number in (b"NaN", b"Infinity", b"-Infinity"):
        yield f"{number.decode()} in a claim of its own", make.sign_raw(usual, body[:-1] + b',"x":' + number + b"}")
    # A legacy token of Firebase's Realtime Database, which has no key id.
    yield "a legacy token", make.sign_raw(b'{"alg":"HS256","typ":"JWT"}', b'{"v":0,"d":{"uid":"1"},"iat":0}')


def bad_signed(make: TokenFactory, claims: Callable[..., Claims], table: Mapping[str, list[object]]) -> Bad:
    """Yield tokens that are signed rightly and say one wrong thing."""
    for name, values in table.items():
        for value in values:
            yield (
                f"the claim {name} {'missing' if value is GONE else repr(value)[:60]}",
                make.sign(claims(**{name: value})),
            )


ODD: list[object] = [GONE, None, "", True, False, [], {}, "x", -1.5, float("nan"), float("inf"), float("-inf")]


def times(ago: int, ahead: int) -> dict[str, list[object]]:
    now = int(time.time())
    return {
        "exp": [*ODD, 0, -1, now - 11, now - ago, str(now + 60), now + 60.5, [now + 60], {"exp": now + 60}],
        "iat": [*ODD, now + 40, now + ahead, str(now), now - 0.5, [now], 10**30],
        "nbf": [None, "x", True, float("nan"), now + 40, now + ahead, str(now), [now]],
    }


def BAD_ID_CLAIMS(project: str) -> Mapping[str, list[object]]:  # noqa: N802  # a table that needs the project's name
    issuer = f"https://securetoken.google.com/{project}"
    return {
        "iss": [*ODD, issuer + "/", issuer + "x", issuer[:-1], issuer.upper(), issuer.replace("https", "http"), [issuer], f" {issuer}", "https://securetoken.google.com/", "https://accounts.google.com", f"https://evil.example/{project}"],
        "aud": [*ODD, project + "x", project[:-1], project.upper(), [project], [project, "other"], f"projects/{project}", f"{project} ", "*"],
        "sub": [GONE, None, "", True, 7, ["ada"], {"uid": "ada"}, "u" * 129, "é" * 129, "\ud800", 1.5],
        **times(7200, 3600),
    }  # fmt: skip


OTHER_PROJECT: dict[str, object] = {
    "iss": "https://firebaseappcheck.googleapis.com/999",
    "aud": ["projects/999", "projects/demo-other"],
    "sub": "1:999:web:abcdef",
}


def BAD_APP_CLAIMS(project: str) -> Mapping[str, list[object]]:  # noqa: N802
    issuer = f"https://firebaseappcheck.googleapis.com/{NUMBER}"
    number, audience = f"projects/{NUMBER}", f"projects/{project}"
    return {
        "iss": [*ODD, issuer + "0", issuer[:-1], issuer + "/", issuer.upper(), issuer.replace("https", "http"), f" {issuer}", "https://firebaseappcheck.googleapis.com/", "https://firebaseappcheck.googleapis.com", "https://firebaseappcheck.googleapis.com/999", f"https://firebaseappcheck.googleapis.com/{number}", f"https://firebaseappcheck.googleapis.com.evil.example/{NUMBER}", f"https://securetoken.google.com/{project}", NUMBER, [issuer]],
        "aud": [*ODD, project, audience, number, f"{number} {audience}", [project, NUMBER], [number], [audience], [number, audience + "x"], [number, "projects/999"], [number, audience.upper()], [number, f" {audience}"], [[number, audience]], [number, [audience]], {number: audience}, [number, None]],
        "sub": [GONE, None, "", True, 7, ["1:1:web:a"], {}, "\ud800"],
        **times(7200, 3600),
    }  # fmt: skip


def BAD_SERVICE_CLAIMS() -> Mapping[str, list[object]]:  # noqa: N802  # a table whose times are those of the test
    return {
        "iss": [*ODD, "https://accounts.google.com/", "http://accounts.google.com", "accounts.google.com.evil.example", "https://accounts.google.com.evil.example", "google.com", "https://ACCOUNTS.google.com", " accounts.google.com", "https://securetoken.google.com/demo-brainstem", ["https://accounts.google.com"]],
        "aud": [*ODD, AUDIENCE + "/", AUDIENCE + "/internal/jobs/run", AUDIENCE[:-1], AUDIENCE.upper(), AUDIENCE.replace("https", "http"), "https://other-abcdefghij-uc.a.run.app", "*", [AUDIENCE], [AUDIENCE, "https://other.example"], f"{AUDIENCE} ", {AUDIENCE: AUDIENCE}],
        "email": [GONE, None, "", True, 7, [EMAIL], {"email": EMAIL}, "\ud800"],
        "email_verified": [GONE, None, False, "true", "True", 1, 1.5, "", [True], {"verified": True}],
        "sub": [GONE, None, "", True, 108234567890123456789, ["1"], {}],
        **times(7200, 3600),
    }  # fmt: skip


def changed(values: Claims, changes: Mapping[str, object]) -> Claims:
    return {name: value for name, value in {**values, **changes}.items() if value is not GONE}


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def flipped(signature: str) -> str:
    return ("B" if signature[0] == "A" else "A") + signature[1:]


def plus(signature: str) -> str:
    """Spell base64url as base64, with at least one character that tells them apart."""
    return signature.replace("-", "+").replace("_", "/") if {"-", "_"} & set(signature) else signature[:-4] + "++//"


def respelled(signature: str) -> str:
    """Set a bit that base64 does not use at the end of 256 bytes: sloppy decoders give the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]


def jwk(key: RSAPrivateKey) -> Claims:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "alg": "RS256", "n": base64url(numbers.n.to_bytes(256, "big")), "e": "AQAB"}
