"""What a question asks for: its terms, without what only makes it a question. No grammar, only lists of a few languages' words."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from service.backends.local.sentences import UNSPACED

WORD = re.compile(r"[^\W_]+")
# Korean has spaces, but glues particles to its words.
PIECE = re.compile(f"([{UNSPACED}\uac00-\ud7af]+)")
ENDINGS = re.compile(r"(?<=\w{3})(?:'s|ings?|ers?|ed|es|en|ly|e|(?<!s)s|y|i)$|(?<=\w{2})(?<!s)s$")
HOW_MUCH = re.compile(
    r"\bhow (?:long|many|much|often|old|big|large|high|far|fast)\b|\bwie (?:viele?|lange?|oft|alt|hoch|groß)\b"
)
WHEN = re.compile(r"\b(?:when|what year|which year|wann|quand|cuándo)\b")
WHAT_IS = re.compile(
    r"\W*(?:what(?: is|'s|’s| are| does)|who (?:is|are)|was (?:ist|sind)|qu'est-ce|qué (?:es|son)|define\b|explain\b)"
)

# What questions are made of, and says nothing of what they are about.
EMPTY = frozenset(
    """a about all also am an and any are as at be become been but by can could describe did do does done exist explain find for from
    get give had happen has have he her his how i if in into is it its know let like look make many may me mean might must my need no
    not of on one or our please say she should show so some tell than that the their them then there these thing they this those to
    us use used want was way we were what when where which who whom whose why will with would you your
    aber als am an auf aus bei bin das dem den der des die du ein eine einem einen einer eines er es für gibt hat ich ihr im in ist
    kann kannst man mich mir mit muss nach nicht oder sie sind so soll über um und uns viel vom von vor wann war warum was welche
    welcher welches wer werden wie wir wird wo zu zum zur
    au aux avec ce ces cette comment dans de des du elle en est et il ils je la le les leur mais ne nous ou où par pas pour pourquoi
    quand que quel quelle qui quoi sa sans se ses son sont sur un une vous à
    al como cómo con cuando cuál de del donde dónde el ella en es esta este esto la las lo los más me mi no o para pero por qué que
    se si sin su sus un una y""".split()
)
# What asks for a document as a whole.
WHOLE = frozenset(
    "content contents document documents file gist main overview pdf point summarise summarize summary text topic".split()
)
GREETINGS = frozenset("hello hi hey hallo bonjour hola moin salut test thanks thank good morning evening day".split())


def terms(text: str) -> list[str]:
    """Return the words of a text as they are compared: folded, without endings; pairs of characters where no spaces are."""
    found: list[str] = []
    for word in WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        for n, piece in enumerate(PIECE.split(word)):
            if n % 2:
                found += [a + b for a, b in pairwise(piece)] or [piece]
            elif piece:
                found.append(ENDINGS.sub("", piece))
    return found


def capitals(text: str) -> list[str]:
    """Return the words that begin with a capital letter, and the numbers."""
    return [word for word in WORD.findall(text) if word[0].isupper() or word[0].isdigit()]


def asked(question: str) -> list[str]:
    """Return the terms that say what a question is about, each once."""
    bare = HOW_MUCH.sub(" ", unicodedata.normalize("NFKC", question).casefold())
    return list(dict.fromkeys(term for term in terms(bare) if term not in EMPTY_TERMS))


def names(question: str) -> set[str]:
    """Return the terms that are names, by their capital letters; the first word has one in any case."""
    others = WORD.findall(question)[1:]
    return set(terms(" ".join(capitals(" ".join(others)))))


def is_greeting(question: str) -> bool:
    words = set(WORD.findall(question.casefold()))
    return bool(words & GREETINGS) and words <= GREETINGS | EMPTY


def wants_whole(question: str) -> bool:
    """Whether a question names nothing in particular: “What is this document about?”"""
    return set(asked(question)) <= WHOLE_TERMS


def wants_number(question: str) -> bool:
    return bool(HOW_MUCH.search(question.casefold()) or WHEN.search(question.casefold()))


def wants_definition(question: str) -> bool:
    return bool(WHAT_IS.match(question.casefold()))


EMPTY_TERMS = frozenset(term for word in EMPTY for term in terms(word))
WHOLE_TERMS = frozenset(term for word in WHOLE for term in terms(word))
