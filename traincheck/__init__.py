"""TrainCheck: notices, within a step, that a training run is silently wrong."""
