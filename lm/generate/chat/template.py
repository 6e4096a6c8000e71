"""Renders a chat template; run as a program, for templates come from strangers.

The first line of its input is {"template", "variables", "limits"} in JSON, each other
line an object of more variables: the messages of a conversation, and others for it
alone. It answers each with a line: the text as a JSON string. When a conversation
cannot be rendered it ends, with the reason on standard error. Jinja's sandbox keeps a
template from reaching for attributes; its computation is bounded only by limits of the
process: memory, and time for each conversation.
"""

import datetime
import json
import resource
import signal
import sys

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
  """{% generation %} marks what the assistant wrote; rendering ignores the mark."""

  tags = frozenset({"generation"})

  def parse(self, parser):
    """Returns the body of the block."""
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return nodes.Scope(body, lineno=line)


def raise_exception(message):
  """Ends the rendering: templates call it for messages that they do not take."""
  raise TemplateError(message)


def strftime_now(form):
  """Returns the time now; templates call it for the date in a system prompt."""
  return datetime.datetime.now().strftime(form)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
  """Returns plain JSON, as templates expect; Jinja's own filter escapes HTML."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


def compiled(template: str):
  """Returns the template in Jinja's sandbox, with what chat templates may call."""
  environment = ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, "jinja2.ext.loopcontrols"],
  )
  environment.filters["tojson"] = to_json
  environment.globals["raise_exception"] = raise_exception
  environment.globals["strftime_now"] = strftime_now
  return environment.from_string(template)


def render(template, variables: dict, max_chars: int) -> str:
  """Returns the text; TemplateError when it is longer than that."""
  text = ""
  for part in template.generate(variables):
    text += part
    if len(text) > max_chars:
      raise TemplateError(f"it writes over {max_chars} characters")
  text.encode()  # half a surrogate pair is no text
  return text


def answer(header: dict, lines):
  """Yields the text of each conversation, within `limits` for each of them."""
  limits, template = header["limits"], None
  for line in lines:
    # CPU time of this process until SIGPROF ends it.
    signal.setitimer(signal.ITIMER_PROF, limits["cpu_s"])
    template = template or compiled(header["template"])
    yield render(template, header["variables"] | json.loads(line), limits["max_chars"])


def main():
  header = json.loads(sys.stdin.readline())
  memory = header["limits"]["memory_bytes"]
  resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
  try:
    for text in answer(header, sys.stdin):
      print(json.dumps(text), flush=True)
  except MemoryError:
    sys.exit(f"it takes over {memory >> 20} MB of memory")
  except Exception as error:  # whatever it is, a stranger's program caused it
    sys.exit(" ".join(f"{type(error).__name__}: {error}".split())[:300])


if __name__ == "__main__":
  main()
