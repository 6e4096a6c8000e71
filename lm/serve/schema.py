"""The bodies of requests: OpenAI's, and a few fields that other servers have as well.

A parameter that has no effect here is refused by its name, but for those that change no
text: `user`, `metadata` and the like.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Id = Annotated[int, Field(ge=0, lt=2**31)]
Ids = Annotated[list[Id], Field(min_length=1)]
Name = Annotated[str, Field(max_length=256)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Unit = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Object = dict[str, Any]
Prompts = str | Ids | Annotated[list[str] | list[Ids], Field(min_length=1)]


class Body(BaseModel):
  """A body of which every field is known."""

  model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

  model: Name | None = None
  user: str | None = None
  metadata: Object | None = None
  store: bool | None = None
  service_tier: str | None = None
  safety_identifier: str | None = None
  prompt_cache_key: str | None = None


class StreamOptions(BaseModel):
  """The parts of a stream besides its text."""

  model_config = ConfigDict(extra="forbid", strict=True)

  include_usage: bool = False
  include_obfuscation: bool = False


class Sampled(Body):
  """The choice of a text; fields in the last lines are no part of OpenAI's API."""

  n: Annotated[int, Field(ge=1)] | None = None
  seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
  stop: Stop | list[Stop] | None = None
  stream: bool | None = None
  stream_options: StreamOptions | None = None
  temperature: Annotated[float, Field(ge=0, le=2)] | None = None
  top_p: Annotated[float, Field(gt=0, le=1)] | None = None
  logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
  frequency_penalty: Penalty | None = None
  presence_penalty: Penalty | None = None
  response_format: Object | None = None

  top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
  min_p: Unit | None = None
  repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
  stop_token_ids: list[Id] | None = None
  ignore_eos: bool | None = None
  cache_salt: Annotated[str, Field(max_length=256)] | None = None

  @model_validator(mode="after")
  def _check(self):
    if self.stream_options is not None and not self.stream:
      raise ValueError("stream_options is for stream=true; leave it out")
    return self


class Completion(Sampled):
  """POST /v1/completions."""

  prompt: Prompts
  best_of: Annotated[int, Field(ge=1)] | None = None
  echo: bool | None = None
  logprobs: Annotated[int, Field(ge=0)] | None = None
  max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
  suffix: Literal[""] | None = None

  @model_validator(mode="after")
  def _check_texts(self):
    if self.best_of is not None and self.best_of < (self.n or 1):
      raise ValueError("best_of must be n or more")
    if self.stream and (self.best_of or 1) > (self.n or 1):
      raise ValueError("best_of above n cannot be streamed: the best is known last")
    if self.max_tokens == 0 and not self.echo:
      raise ValueError("max_tokens=0 is for echo=true")
    return self


class Part(BaseModel):
  """A part of a message: text alone is read here."""

  model_config = ConfigDict(extra="ignore", strict=True)

  type: Literal["text", "input_text", "output_text"]
  text: str


class Message(BaseModel):
  """A message of a conversation; what else it has is not shown to the template."""

  model_config = ConfigDict(extra="ignore", strict=True)

  role: Literal["system", "developer", "user", "assistant", "tool"]
  content: str | list[Part] | None = None
  name: Name | None = None
  tool_calls: list[Object] | None = None
  tool_call_id: str | None = None

  @model_validator(mode="after")
  def _check(self):
    if self.content is None and not self.tool_calls:
      raise ValueError("a message without tool_calls needs content")
    return self

  def shown(self) -> Object:
    """Returns the message as templates know it: content is a string."""
    content = self.content
    if isinstance(content, list):
      content = "\n".join(part.text for part in content)
    role = "system" if self.role == "developer" else self.role
    shown = {"role": role, "content": content or ""}
    others = ("name", "tool_calls", "tool_call_id")
    return shown | {n: getattr(self, n) for n in others if getattr(self, n)}


Messages = Annotated[list[Message], Field(min_length=1)]


class Chat(Sampled):
  """POST /v1/chat/completions."""

  messages: Messages
  max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
  max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
  logprobs: bool | None = None
  top_logprobs: Annotated[int, Field(ge=0)] | None = None
  tools: list[Object] | None = None
  tool_choice: Literal["none", "auto"] | None = None
  parallel_tool_calls: bool | None = None
  chat_template_kwargs: Object | None = None

  @model_validator(mode="after")
  def _check_chat(self):
    if self.top_logprobs is not None and not self.logprobs:
      raise ValueError("top_logprobs is for logprobs=true")
    return self


class Embedding(Body):
  """POST /v1/embeddings."""

  input: Prompts
  encoding_format: Literal["float", "base64"] | None = None
  dimensions: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class Item(BaseModel):
  """A message in the input of /v1/responses."""

  model_config = ConfigDict(extra="ignore", strict=True)

  type: Literal["message"] = "message"
  role: Literal["system", "developer", "user", "assistant"]
  content: str | list[Part]

  def message(self) -> Message:
    """Returns it as a message of a chat."""
    return Message(role=self.role, content=self.content)


class TextFormat(BaseModel):
  """The form of the text of a response."""

  model_config = ConfigDict(extra="ignore", strict=True)

  format: Object | None = None


class Response(Body):
  """POST /v1/responses."""

  input: (
    Annotated[str, Field(min_length=1)] | Annotated[list[Item], Field(min_length=1)]
  )
  instructions: str | None = None
  max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
  temperature: Annotated[float, Field(ge=0, le=2)] | None = None
  top_p: Annotated[float, Field(gt=0, le=1)] | None = None
  top_logprobs: Annotated[int, Field(ge=0)] | None = None
  include: list[Literal["message.output_text.logprobs"]] | None = None
  stream: bool | None = None
  stream_options: StreamOptions | None = None
  text: TextFormat | None = None
  tools: Annotated[list[Object], Field(max_length=0)] | None = None
  tool_choice: Literal["none", "auto"] | None = None
  parallel_tool_calls: bool | None = None
  previous_response_id: None = None
  truncation: Literal["disabled"] | None = None
  background: Literal[False] | None = None


class Tokenize(BaseModel):
  """POST /tokenize: of a text, or of a conversation."""

  model_config = ConfigDict(extra="forbid", strict=True)

  model: Name | None = None
  prompt: str | None = None
  messages: Messages | None = None
  add_special_tokens: bool = True
  return_token_strs: bool | None = None

  @model_validator(mode="after")
  def _check(self):
    if (self.prompt is None) == (self.messages is None):
      raise ValueError("wanted a prompt or messages")
    return self


class Detokenize(BaseModel):
  """POST /detokenize."""

  model_config = ConfigDict(extra="forbid", strict=True)

  model: Name | None = None
  tokens: list[Id]


class Questions(Body):
  """POST /v1/classify and /v1/answers: a text, a record, or a list of those."""

  input: str | Object | Annotated[list[str | Object], Field(min_length=1)]
