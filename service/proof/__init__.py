"""The proof of isolation: a world of apps and users, and every way that is known of reaching what is another's."""

from service.proof.proving import Options, prove
from service.proof.report import Report

__all__ = ["Options", "Report", "prove"]
