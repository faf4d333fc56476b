// The engine by itself: white space, scopes, errors with lines, and templates that mean harm.
#include <chrono>
#include <string>

#include "services/common/template/chat_template.h"
#include "services/common/template/lexer.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

StatusOr<std::string> RenderText(const std::string& source, const std::string& variables = "{}",
                                 const TemplateLimits& limits = {}) {
  ROLLCALL_ASSIGN_OR_RETURN(const ChatTemplate chat_template,
                            ChatTemplate::Parse(source, "t.jinja", {{"bos_token", "<s>"}}, limits));
  ChatInput input;
  input.messages = R"([{"role": "user", "content": "hi"}])";
  input.variables = variables;
  input.now = CivilTime{2024, 2, 29, 23, 59, 1, 42};
  ROLLCALL_ASSIGN_OR_RETURN(RenderedChat chat, chat_template.Render(input));
  return chat.text;
}

void CheckText(const std::string& source, const std::string& expected,
               const std::string& variables = "{}") {
  INFO(source);
  REQUIRE_OK_AND_ASSIGN(const std::string text, RenderText(source, variables));
  CHECK(text == expected);
}

void CheckError(const std::string& source, StatusCode code, const std::string& part,
                const TemplateLimits& limits = {}) {
  INFO(source.substr(0, 200));
  const auto begin = std::chrono::steady_clock::now();
  const StatusOr<std::string> text = RenderText(source, "{}", limits);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  REQUIRE_FALSE(text.ok());
  INFO(text.status().ToString());
  CHECK(text.status().code() == code);
  CHECK(Message(text.status()).find(part) != std::string::npos);
  CHECK(elapsed < std::chrono::seconds(20));  // A limit ends it, not the patience of the caller.
}

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST_CASE("Lexer: numbers, strings and operators become tokens with their lines",
          "[unit][template]") {
  REQUIRE_OK_AND_ASSIGN(const auto tokens,
                        jinja::Tokenize("a\n{{ 1_000 + 0x1F // 2.5e1 ~ 'x\\n\\u00e9' }}"));
  using jinja::TokenKind;
  REQUIRE(tokens.size() == 11);
  CHECK(tokens[0].text == "a\n");
  CHECK(tokens[1].kind == TokenKind::kVariableBegin);
  CHECK(tokens[1].line == 2);
  CHECK(tokens[2].integer == 1000);
  CHECK(tokens[4].integer == 31);
  CHECK(tokens[5].text == "//");
  CHECK(tokens[6].number == 25.0);
  CHECK(tokens[8].text == "x\n\xC3\xA9");
  CHECK(tokens[9].kind == TokenKind::kVariableEnd);
  CHECK(tokens[10].kind == TokenKind::kEnd);
}

TEST_CASE("White space follows trim_blocks and lstrip_blocks", "[unit][template]") {
  CheckText("  {% if true %}\n a\n  {% endif %}\nb\n", " a\nb");
  CheckText("x {%- if true -%} \n y \n {%- endif -%} z", "xyz");
  CheckText("a\n  {%+ if true %}b{% endif +%}\nc", "a\n  b\nc");
  CheckText("  {# note #}\nx{#- gone -#}  y\n\n", "xy\n");
  CheckText("{% raw %}{{ a }}{% endraw %}\n|", "{{ a }}|");
  CheckText("a\r\nb\rc", "a\nb\nc");
}

TEST_CASE("Scopes are those of jinja2", "[unit][template]") {
  CheckText("{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{% endfor %}{{ x }}", "111");
  CheckText(
      "{% set n = namespace(x=1) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}"
      "{{ n.x }}",
      "4");
  CheckText("{% macro f() %}{{ y }}{% endmacro %}{% set y = 'late' %}{{ f() }}", "late");
  CheckText(
      "{% for i in [1] %}{% macro g() %}{{ i }}{% endmacro %}{% set s = namespace(f=g) %}"
      "{{ s.f() }}{% endfor %}",
      "1");
  CheckText("{{ strftime_now('%Y-%m-%d %H:%M:%S.%f %a %j%%') }}",
            "2024-02-29 23:59:01.000042 Thu 060%");
}

TEST_CASE("Errors name the template, the line and what is wrong", "[unit][template]") {
  const auto kBad = StatusCode::kInvalidArgument;
  CheckError("a\n{{ x.y.z }}", kBad, "t.jinja: line 2: 'x' is undefined");
  CheckError("{% for x in %}", kBad, "expected an expression, found '%}'");
  CheckError("{% if true %}\n\n", kBad, "expected {% elif %}");
  CheckError("{{ 1 | nosuch }}", kBad, "no filter named 'nosuch'");
  CheckError("\n\n{{ 1 | wordwrap }}", StatusCode::kUnimplemented, "line 3: the filter 'wordwrap'");
  for (const char* tag : {"include 'x'", "extends 'x'", "import 'x' as y", "from 'x' import y"}) {
    CheckError(std::string("{% ") + tag + " %}", StatusCode::kUnimplemented, "is not supported");
  }
  CheckError("{% break %}", kBad, "outside of any loop");
  CheckError("{{ raise_exception('no ' ~ 'way') }}", StatusCode::kFailedPrecondition, "no way");
  CheckError("{{ messages.append(1) }}", kBad, "cannot change");
  CheckError("{{ ''.__class__.__mro__ }}", kBad, "__class__");
  CheckError("{% set messages.x = 1 %}", kBad, "only a namespace()");
  CheckError("{{ 9223372036854775807 + 1 }}", kBad, "64 bits");
  CheckError("{{ 'a' \n", kBad, "found the end of the template");
  CheckError(std::string("{{ '\xFF' }}"), kBad, "not UTF-8");
}

TEST_CASE("What a hostile template asks for ends at a limit", "[unit][template]") {
  const auto kLimit = StatusCode::kResourceExhausted;
  CheckError("{{ " + Repeat("(", 100000) + "1" + Repeat(")", 100000) + " }}", kLimit,
             "nested deeper");
  CheckError("{{ " + Repeat("-", 100000) + "1 }}", kLimit, "nested deeper");
  CheckError("{{ " + Repeat("not ", 100000) + "1 }}", kLimit, "nested deeper");
  CheckError("{{ 1" + Repeat(" + 1", 100000) + " }}", kLimit, "nested deeper");
  CheckError("{{ x" + Repeat(".x", 100000) + " }}", kLimit, "nested deeper");
  CheckError("{{ x" + Repeat("|e", 100000) + " }}", kLimit, "nested deeper");
  CheckError(Repeat("{% if 1 %}", 100000), kLimit, "nested deeper");
  CheckError(Repeat("a", (1 << 20) + 1), kLimit, "bytes, the limit");
  CheckError("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", kLimit, "nested deeper");
  CheckError("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", kLimit, "nested deeper");
  CheckError("{{ range(1000000000) | list }}", kLimit, "range()");
  CheckError("{{ 'abcdefgh' * 1000000000 }}", kLimit, "over the limit");
  CheckError("{{ [0] * 1000000000 }}", kLimit, "limit");
  CheckError("{{ 'x'.center(100000000000) }}", kLimit, "over the limit");
  CheckError("{{ 'a' | indent(1000000000) }}", kLimit, "over the limit");
  CheckError(
      "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}"
      "{% endfor %}",
      kLimit, "over the limit");
  CheckError(
      "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
      "{% set n.s = n.s.replace('a', n.s) %}{% endfor %}",
      kLimit, "over the limit");
  CheckError(
      "{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}"
      "{% endfor %}",
      kLimit, "limit");
  CheckError(
      "{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = [n.l] %}"
      "{% endfor %}",
      kLimit, "nested deeper");
  CheckError(
      "{% set n = namespace(l=[]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}"
      "{% endfor %}{{ n.l == n.l[:] }}{{ n.l | string }}",
      kLimit, "steps of work");
  CheckError(
      "{% set n = namespace(g=[1]) %}{% for i in range(9999) %}"
      "{% set n.g = n.g | map('string') %}{% endfor %}{{ n.g | list }}",
      kLimit, "nested deeper");
  const std::string loops = "{% for i in range(100000) %}";
  CheckError(loops + loops + loops + Repeat("{% endfor %}", 3), kLimit, "steps of work");
  TemplateLimits small;
  small.max_string_bytes = 1000;
  CheckError("{% for i in range(1001) %}x{% endfor %}", kLimit, "over the limit", small);
}

TEST_CASE("Objects that refer to themselves and long chains are freed", "[unit][template]") {
  CheckText(
      "{% set n = namespace() %}{% set n.n = n %}{% set n.l = [n] %}"
      "{% macro f() %}{% endmacro %}{% set n.f = f %}ok",
      "ok");
  CheckText(
      "{% set n = namespace(x=0) %}{% for i in range(50000) %}"
      "{% set n.x = namespace(x=n.x) %}{% endfor %}ok",
      "ok");
  CheckText(
      "{% set n = namespace(x=0) %}{% for i in range(50000) %}{% set y = n.x %}"
      "{% for j in [1] %}{% set n.x = loop %}{% endfor %}{% endfor %}ok",
      "ok");
  CheckText(
      "{% set n = namespace(x=[0]) %}{% for i in range(50000) %}{% for j in n.x %}"
      "{% set n.x = [loop] %}{% endfor %}{% endfor %}ok",
      "ok");
  CheckText(
      "{% set n = namespace(x=0) %}{% for i in range(20000) %}{% set y = n.x %}"
      "{% macro f() %}{{ y }}{% endmacro %}{% set n.x = f %}{% endfor %}ok",
      "ok");
}

}  // namespace
}  // namespace rollcall
