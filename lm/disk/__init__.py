"""Bytes on disk: how a file is written safely, how damage is noticed, file formats.

atomic       files and folders that are whole or absent, however a process dies
locks        who may write: one process at a time, freed when it dies
paths        what a user gives as a path, and paths for libraries that misread one
digest       SHA256SUMS of a folder, so that a single wrong bit is noticed
compressed   .gz, .bz2, .xz and .zst, read as if they were not compressed
json_file    a small JSON object, with the user's mistakes named
safetensors  files of named tensors (Hugging Face)
gguf         files of llama.cpp: metadata and quantised tensors
events       scalars for TensorBoard

Nothing here knows what a model is, and nothing that a file brings is run.
"""
