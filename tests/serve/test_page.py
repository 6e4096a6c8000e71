"""The page, by a browser that nobody steers: a conversation, tokens, a phone, a key.

It needs Chromium, which Debian has (`apt-get install chromium`).
"""

import shutil

import pytest
import served
from playwright.sync_api import expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")
PHONE = {"width": 360, "height": 640}
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser():
  with sync_playwright() as playwright:
    options = dict(executable_path=CHROMIUM, args=["--no-sandbox"])
    browser = playwright.chromium.launch(**options)
    yield browser
    browser.close()


@pytest.fixture
def page(browser):
  """A page of the tiny model on a phone's screen, without an error at its end."""
  page, errors = browser.new_page(viewport=PHONE), []
  page.on("pageerror", lambda error: errors.append(error))
  page.goto(served.tiny_url())
  page.set_default_timeout(WAIT_MS)
  expect(page.locator("#status")).to_have_text("ready")
  yield page
  page.close()
  assert not errors


def settings(page, **values):
  page.locator("summary").click()
  for name, value in values.items():
    page.locator(f"#{name}").fill(str(value))
  page.locator("summary").click()


def say(page, text: str) -> str:
  """Sends a message by keyboard alone; returns the answer when it is whole."""
  page.locator("#prompt").fill(text)
  page.keyboard.press("Enter")
  expect(page.locator("#status")).to_have_text("ready", timeout=WAIT_MS)
  expect(page.locator("#prompt")).to_be_focused()
  return page.locator(".assistant .text").last.text_content()


def test_a_conversation_is_that_of_the_api(page):
  settings(page, temperature=0, max_tokens=24)
  messages, client = [], served.client()
  for text in ("Hello <b>you</b>", "And now?"):
    messages.append({"role": "user", "content": text})
    reply = client.chat.completions.create(
      model="tiny", messages=messages, temperature=0, max_tokens=24
    )
    messages.append({"role": "assistant", "content": say(page, text)})
    assert messages[-1]["content"] == reply.choices[0].message.content
  assert page.locator(".user .text").first.text_content() == "Hello <b>you</b>"
  assert not page.locator(".error").count()
  width = page.evaluate("document.documentElement.scrollWidth")
  assert width <= PHONE["width"]


def test_tokens_show_their_chances_by_keyboard_and_by_pointer(page):
  settings(page, temperature=0, max_tokens=8)
  say(page, "a")
  text, tip = page.locator(".assistant .text"), page.locator("#tip")
  assert text.locator("span").count() == 8
  text.focus()
  page.keyboard.press("ArrowRight")
  expect(tip).to_be_visible()
  assert tip.locator("tr").count() >= 5
  chosen = tip.locator("tr.chosen td").all_text_contents()
  assert chosen[1] == tip.locator("td:last-child").first.text_content()  # greedy
  page.keyboard.press("Escape")
  expect(tip).to_be_hidden()
  text.locator("span").nth(3).hover()
  expect(tip).to_be_visible()


def test_escape_stops_a_text(page):
  page.route("**/v1/chat/completions", lambda route: None)  # which is never answered
  page.locator("#prompt").fill("a")
  page.keyboard.press("Enter")
  expect(page.locator("#status")).to_have_text("writing")
  page.keyboard.press("Escape")
  expect(page.locator("#status")).to_have_text("stopped")
  expect(page.locator("#send")).to_be_enabled()


def test_a_key_is_asked_for_and_kept_for_the_tab(browser):
  with served.thread(served.load(served.tiny(), keys=["secret"])) as url:
    page = browser.new_page()
    page.goto(url)
    expect(page.locator("#status")).to_contain_text("API key")
    page.locator("#key").fill("secret")
    page.keyboard.press("Tab")
    expect(page.locator("#status")).to_have_text("ready")
    page.reload()
    expect(page.locator("#status")).to_have_text("ready")
    page.close()
