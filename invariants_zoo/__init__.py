"""Packs of inferred invariants, as data. Installed as traincheck.invariants_zoo."""
