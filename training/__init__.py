"""Makes the engines that `rtsr` runs: data, training, evaluation, export. Needs the `train` extra (torch)."""
