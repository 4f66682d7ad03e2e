"""Signatures: who said what, for everybody who has the public key."""
