"""Readings of finished and running experiments, from the files of their folders alone.

`curves` draws the metrics of one run over its steps, `runs` reads the result of a run,
`report` puts several results into a table and a picture.
"""
