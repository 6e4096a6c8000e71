"""Tasks: what a model is scored on besides its own objective. A file here is a task.

Today a task is a module `lm/tasks/<name>.py` with one function,

  evaluate(model, params, tokenizer, *, cache) -> {"<task>/<metric>": float}

which `evaluate --tasks=<name>` calls; `cache` is the folder for data that it fetches.
Fine-tuning, evaluation and serving are to share one description instead,

  Task(name, records, encode, decode, score, objective)

records(split) yields examples, encode(example) makes the arrays of a row, decode(row)
turns what the model predicts into an answer, score(answers, references) gives named
(sum, weight) pairs, and objective names the loss that trains it.
"""
