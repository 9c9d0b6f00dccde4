"""The folder that is put in front of ``PYTHONPATH``, so that its ``sitecustomize`` runs in every Python child."""
