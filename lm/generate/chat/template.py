"""Renders a chat template; run as a program, for templates come from strangers.

It reads {"template", "most", "variables"} as JSON and writes the text, or on standard
error why there is none. Jinja's sandbox keeps a template from reaching for attributes,
and nothing bounds what it may compute but the limits of a process: memory and time.
"""

import datetime
import json
import resource
import sys

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES, CPU_S = 1 << 29, 2
REFUSED = 3  # exit code


class Generation(Extension):
  """{% generation %} marks what a model said; for rendering it is nothing."""

  tags = frozenset({"generation"})

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return nodes.Scope(body, lineno=line)


def raise_exception(message):
  raise TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
  """As everybody's templates expect it: Jinja's own escapes for HTML."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


def render(template: str, variables: dict, most: int) -> str:
  """The text, of at most so many characters."""
  environment = ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, "jinja2.ext.loopcontrols"],
  )
  environment.filters["tojson"] = to_json
  environment.globals["raise_exception"] = raise_exception
  environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(
    form
  )
  text = ""
  for part in environment.from_string(template).generate(**variables):
    text += part
    if len(text) > most:
      raise TemplateError(f"it writes over {most} characters")
  return text


def main():
  resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
  resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
  asked = json.load(sys.stdin)
  try:
    text = render(asked["template"], asked["variables"], asked["most"])
  except MemoryError:
    sys.exit(f"it takes over {MEMORY_BYTES >> 20} MB of memory")
  except Exception as error:  # whatever it is, a stranger's program caused it
    sys.exit(" ".join(f"{type(error).__name__}: {error}".split())[:300])
  sys.stdout.buffer.write(text.encode())


if __name__ == "__main__":
  main()
