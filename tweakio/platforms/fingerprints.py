"""The default fingerprint generator: a seed per profile, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SeededFingerprintGenerator"]


class SeededFingerprintGenerator:
    """A random seed per profile, from which launch options are derived.

    The seed has 128 bits, so no two profiles of a repository share one. What is derived
    from it may improve with tweakio; the seed stays for the life of the profile.
    """

    def generate(self, profile_id: str) -> Mapping[str, Any]:  # noqa: ARG002 - the protocol has it
        """A new seed; the id plays no part, so that a name used again is a new identity."""
        import secrets

        return {"schema_version": 1, "generator": "seeded", "seed": secrets.token_hex(16)}
