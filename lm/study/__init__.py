"""Readings of finished and running experiments, from the files of their folders.

`curves` draws the metrics of one run over its steps, `runs` reads the result of a run,
`report` puts several results into a table and a picture. With the model at hand,
`compare` says which of two is better, `checks` what a score does not say, `attribute`
what an output owes to each token, and `run_page` shows a run on one page.
"""
