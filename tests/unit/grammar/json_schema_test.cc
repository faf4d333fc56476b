#include "services/grammar/json_schema.h"

#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/grammar/grammar_text.h"

namespace rollcall {
namespace {

using testing::Accepts;

ByteAutomaton Compile(std::string_view schema) {
  REQUIRE_OK_AND_ASSIGN(ByteAutomaton automaton, CompileJsonSchema(schema));
  return automaton;
}

const std::vector<std::string>& Schemas() {
  static const std::vector<std::string> schemas = {
      "{}",
      "true",
      R"({"type": "object"})",
      R"({"type": "string", "minLength": 2, "maxLength": 4})",
      R"({"type": "string", "pattern": "^a[b\"\\\\]+$"})",
      R"({"type": "string", "pattern": "x\\d|^yy"})",
      R"({"type": "integer", "minimum": -13, "maximum": 205})",
      R"({"type": "integer", "exclusiveMinimum": 99})",
      R"({"type": "integer", "maximum": -7})",
      R"({"type": "integer", "minimum": 8, "maximum": 1234567})",
      R"({"type": "number", "minimum": -2, "maximum": 11})",
      R"({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})",
      R"({"type": "number", "exclusiveMinimum": -5, "maximum": 0})",
      R"({"type": "number", "maximum": 3})",
      R"({"type": ["boolean", "null"]})",
      R"({"enum": ["a\"b", 3, null, [1, {"x": "é"}]]})",
      R"({"const": {"a": [true, 1.5]}})",
      R"({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3})",
      R"({"type": "array", "items": {"type": "boolean"}, "maxItems": 0})",
      R"({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}],
          "items": {"type": "integer"}, "maxItems": 3})",
      R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer",
          "minimum": 0}, "tags": {"type": "array", "items": {"enum": ["x", "y"]}}},
          "required": ["name"], "additionalProperties": false})",
      R"({"type": "object", "properties": {"a": {"type": "null"}, "ab": {"type": "null"}},
          "additionalProperties": {"type": "boolean"}})",
      R"({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]})",
      R"({"oneOf": [{"type": "object", "properties": {"k": {"const": "p"}, "v": {"type": "null"}},
                     "required": ["k"]},
                    {"type": "object", "properties": {"k": {"const": "q"}}, "required": ["k"]}]})",
      R"({"allOf": [{"type": "boolean"}]})",
      R"({"$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"},
          "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
          "required": ["value", "next"]}}, "$ref": "#/$defs/node"})",
      R"({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
          "additionalProperties": false})"};
  return schemas;
}

}  // namespace

TEST_CASE("JsonSchema: worked by hand", "[unit][grammar]") {
  const ByteAutomaton person = Compile(
      R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name"]})");
  for (const char* yes : {R"({"name":"x"})", R"({ "name": "\u00e9\n", "age": -3 })",
                          "{\n  \"name\": \"\xE2\x82\xAC\"\n}"}) {
    CHECK(Accepts(person, yes));
  }
  for (const char* no :
       {"{}", R"({"age": 1})", R"({"name": 1})", R"({"name":"x","age":01})", R"({"name":"x",})",
        R"({"name":"x","b":1})", R"({"name":"\ud800"})", R"({"name":"x"} )", "{\"name\":\"\n\"}"}) {
    CHECK(!Accepts(person, no));
  }
  const ByteAutomaton range = Compile(R"({"type": "integer", "minimum": -13, "maximum": 205})");
  for (int i = -300; i <= 300; ++i) {
    CHECK(Accepts(range, std::to_string(i)) == (i >= -13 && i <= 205));
  }
  const ByteAutomaton above = Compile(R"({"type": "integer", "minimum": 95})");
  for (const int i : {0, 9, 94, 95, 99, 100, 1000, 94'000, 950'000}) {
    CHECK(Accepts(above, std::to_string(i)) == (i >= 95));
  }
  const ByteAutomaton share = Compile(R"({"type": "number", "exclusiveMinimum": 0, "maximum": 1})");
  for (const char* yes : {"0.5", "0.0001", "1", "1.0", "0.90"}) CHECK(Accepts(share, yes));
  for (const char* no : {"0", "0.0", "1.5", "-0.5", "2", "1.01", "1e-1"})
    CHECK(!Accepts(share, no));
  const ByteAutomaton tree = Compile(
      R"({"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#"}}}})");
  CHECK(Accepts(tree, R"({"c":[{"c":[{},{"c":[]}]},{}]})"));
  CHECK(!Accepts(tree, R"({"c":[{"c":[{}]})"));
  const ByteAutomaton others = Compile(
      R"({"type": "object", "properties": {"ab": {"type": "null"}}, "additionalProperties": true})");
  for (const char* yes : {R"({"ab":null,"abc":1})", R"({"a":1})", R"({"":1,"b":2})"}) {
    CHECK(Accepts(others, yes));
  }
  for (const char* no : {R"({"ab":1})", R"({"a":1,"ab":1})", R"({"\u0061b":1})"}) {
    CHECK(!Accepts(others, no));
  }
}

TEST_CASE("JsonSchema: what is wrong or not supported is refused with its place",
          "[unit][grammar]") {
  struct Case {
    const char* schema;
    const char* message;
  };
  for (const Case& item :
       {Case{"{", "no JSON"},
        Case{"3", "true or false"},
        Case{"false", "matches nothing"},
        Case{R"({"type": "text"})", "is not known"},
        Case{R"({"not": {}})", "'not' is not supported"},
        Case{R"({"type": "array", "uniqueItems": true})", "'uniqueItems'"},
        Case{R"({"properties": {"a": {"multipleOf": 2}}})", "#/properties/a: 'multipleOf'"},
        Case{R"({"required": ["a"]})", "not in properties"},
        Case{R"({"$ref": "http://x"})", "does not point into"},
        Case{R"({"$ref": "#/$defs/a"})", "points to nothing"},
        Case{R"({"$ref": "#"})", "matches nothing"},
        Case{R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
                 "$ref": "#/$defs/a"})",
             "refers to itself"},
        Case{R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "matches nothing"},
        Case{R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "may overlap"},
        Case{R"({"allOf": [{}, {}]})", "allOf of more"},
        Case{R"({"type": "number", "minimum": 0.5})", "must be whole"},
        Case{R"({"type": "integer", "minimum": "1"})", "a number of at most"},
        Case{R"({"type": "string", "minLength": -1})", "minLength"},
        Case{R"x({"type": "string", "pattern": "(?=a)"})x", "only (?:...)"},
        Case{R"({"type": "string", "pattern": "a", "maxLength": 3})", "beside"},
        Case{R"({"anyOf": []})", "list of schemas"}}) {
    const Status status = CompileJsonSchema(item.schema).status();
    INFO(item.schema << " " << status.ToString());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).find(item.message) != std::string::npos);
  }
  std::string deep;
  for (int i = 0; i < 3000; ++i) deep += R"({"items":)";
  CHECK(!CompileJsonSchema(deep + "{}" + std::string(3000, '}')).ok());
}

TEST_CASE("JsonSchema: random texts of a grammar satisfy its schema", "[unit][grammar][python]") {
  if (!testing::HasPython("json")) return;
  CounterRandom random(4);
  nlohmann::json cases = nlohmann::json::array();
  for (const std::string& schema : Schemas()) {
    const ByteAutomaton automaton = Compile(schema);
    nlohmann::json texts = nlohmann::json::array();
    for (int i = 0; i < 200 && texts.size() < 40; ++i) {
      const auto text = testing::RandomText(automaton, 400, &random);
      if (text) texts.push_back(*text);
    }
    INFO(schema);
    REQUIRE(texts.size() >= 5);
    cases.push_back({{"schema", nlohmann::json::parse(schema)}, {"texts", texts}});
  }
  const testing::TempDir dir;
  std::ofstream(dir.File("cases.json")) << cases;
  CHECK(testing::RunPython("tests/unit/grammar/reference_json_schema.py check",
                           dir.File("cases.json")) == 0);
}

TEST_CASE("JsonSchema: values that a writer makes of a schema are texts of its grammar",
          "[unit][grammar][python]") {
  if (!testing::HasPython("json")) return;
  const testing::TempDir dir;
  nlohmann::json schemas = nlohmann::json::array();
  for (const std::string& schema : Schemas()) {
    schemas.push_back(nlohmann::ordered_json::parse(schema).dump());
  }
  std::ofstream(dir.File("schemas.json")) << schemas;
  REQUIRE(testing::RunPython("tests/unit/grammar/reference_json_schema.py generate",
                             dir.File("schemas.json") + " " + dir.File("texts.json")) == 0);
  std::ifstream file(dir.File("texts.json"));
  const nlohmann::json made = nlohmann::json::parse(file);
  REQUIRE(made.size() == Schemas().size());
  for (size_t i = 0; i < made.size(); ++i) {
    const ByteAutomaton automaton = Compile(Schemas()[i]);
    REQUIRE(!made[i].empty());
    for (const auto& text : made[i]) {
      INFO(Schemas()[i] << "\n" << text.get<std::string>());
      CHECK(Accepts(automaton, text.get<std::string>()));
    }
  }
}

}  // namespace rollcall
