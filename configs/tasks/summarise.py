"""Summaries: a line for a package of Debian by its long description, from nothing.

The encoder-decoder of translate_en_fr.py, 3M parameters, on 55,000 descriptions.

Run: ./launch.sh train --config=configs/tasks/summarise.py
     ./launch.sh train --config=configs/tasks/summarise.py --workdir=runs/leads
       --config.task.train=wikipedia:en --config.task.summary=description
Measured 2026-11-30 on 2 virtual cores without AMX, 10 minutes, on 6,240 held-out ones:
ROUGE-1 0.275 (95 %: 0.269 to 0.280) and ROUGE-L 0.255 (0.250 to 0.260); the first
sentence has 0.327 and 0.284. From the run of translate_en_fr.py, 400 steps beside other
work in 9 minutes: 0.372 (0.366 to 0.378) and 0.343 (0.337 to 0.349), by
  --config.num_steps=400 --config.eval.every=400 --config.init.path=RUN
  --config.data.tokenizer=RUN/tokenizer
"""

from configs.tasks import translate_en_fr


def get_config():
  cfg = translate_en_fr.get_config()  # its model, tokenizer, loss and optimiser
  cfg.update(batch=16, seq=256)
  cfg.task = dict(name="summarise", train="debian:en", max_tokens=32, targets=64)
  cfg.eval = dict(every=250)
  return cfg
