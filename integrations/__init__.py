"""Adapters: each translates the moments of one framework into the training vocabulary.

Installed as ``traincheck.integrations``. Nothing is imported here: each framework is an extra.
"""
