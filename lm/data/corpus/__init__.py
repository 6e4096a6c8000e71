"""Token shards on disk: built once (build), opened (reader), mixed (dataset)."""
