#include "services/common/scoring/scorer_catalog.h"

#include <map>
#include <set>
#include <string>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Options = std::map<std::string, std::string>;

std::string Refusal(std::string_view type, const Options& options) {
  const Status status = CheckScorer(type, options);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  return Message(status);
}

TEST_CASE("CheckScorer: unknown names list the known ones", "[unit][scoring]") {
  CHECK(Refusal("exact", {}).find("known: exact_match, numeric") != std::string::npos);
  CHECK(Refusal("regex", {{"patern", "a"}}) ==
        "regex: option 'patern' is unknown; known: pattern, match, case_sensitive");
  CHECK(Refusal("remote", {{"adress", "a"}}).find("concurrency, option.<key>") !=
        std::string::npos);
}

TEST_CASE("CheckScorer: values are checked", "[unit][scoring]") {
  CHECK(Refusal("exact_match", {{"strip", "yes"}}) ==
        "exact_match: option 'strip': 'yes' is not true or false");
  CHECK(Refusal("exact_match", {{"extract", "a("}}).find("malformed at byte 2") !=
        std::string::npos);
  CHECK(Refusal("exact_match", {{"take", "middle"}}).find("first|last") != std::string::npos);
  CHECK(Refusal("numeric", {{"tolerance", "-1"}}).find("a number within [0, ") !=
        std::string::npos);
  CHECK(Refusal("numeric", {{"relative_tolerance", "nan"}}).find("[0, 1]") != std::string::npos);
  CHECK(Refusal("length", {{"max", "1.5"}}).find("an integer within") != std::string::npos);
  CHECK(Refusal("length", {{"min", "5"}, {"max", "4"}}) ==
        "length: option 'min' (5) is above option 'max' (4)");
  CHECK(Refusal("remote", {{"address", "nowhere"}}).find("nowhere") != std::string::npos);
  CHECK(Refusal("regex", {{"pattern", std::string(5000, 'a')}}).find("5000 bytes") !=
        std::string::npos);
}

TEST_CASE("CheckScorer: a required option is asked for", "[unit][scoring]") {
  CHECK(Refusal("regex", {}).find("option 'pattern' is missing") != std::string::npos);
  CHECK(Refusal("length", {}).find("option 'max' is missing") != std::string::npos);
  CHECK(Refusal("remote", {}).find("option 'address' is missing") != std::string::npos);
}

TEST_CASE("ScorerOptions: defaults are filled and options pass through", "[unit][scoring]") {
  REQUIRE_OK_AND_ASSIGN(const ScorerOptions exact, ScorerOptions::Parse("exact_match", {}));
  CHECK(exact.GetBool("strip"));
  CHECK(exact.GetText("extract").empty());
  CHECK(exact.GetText("take") == "last");
  REQUIRE_OK_AND_ASSIGN(
      const ScorerOptions remote,
      ScorerOptions::Parse("remote", {{"address", "127.0.0.1:9"}, {"option.model", "m"}}));
  CHECK(remote.GetInteger("concurrency") == 16);
  CHECK(remote.pass_through() == Options{{"model", "m"}});
}

TEST_CASE("ScorerOptions: identity tells different settings apart", "[unit][scoring]") {
  std::set<std::string> identities;
  const std::map<int, Options> settings = {{0, {{"address", "h:1"}}},
                                           {1, {{"address", "h:1"}, {"option.a", "bc"}}},
                                           {2, {{"address", "h:1"}, {"option.ab", "c"}}},
                                           {3, {{"address", "h:2"}}},
                                           {4, {{"address", "h:1"}, {"tls", "true"}}}};
  for (const auto& [number, options] : settings) {
    identities.insert(ScorerOptions::Parse("remote", options)->Identity());
  }
  CHECK(identities.size() == settings.size());
  CHECK(ScorerOptions::Parse("remote", {{"address", "h:1"}, {"tls", "false"}})->Identity() ==
        ScorerOptions::Parse("remote", {{"address", "h:1"}})->Identity());
}

TEST_CASE("Catalogue: every default is a valid value", "[unit][scoring]") {
  std::set<std::string_view> names;
  for (const ScorerType& type : ScorerCatalog()) {
    CHECK(names.insert(type.name).second);
    CHECK_FALSE(type.help.empty());
    Options options;
    for (const ScorerOption& option : type.options) {
      CHECK_FALSE(option.help.empty());
      if (!option.is_required) options[std::string(option.name)] = option.default_value;
    }
    if (type.name == "regex") options["pattern"] = "a";
    if (type.name == "length") options["max"] = "5";
    if (type.name == "remote") options["address"] = "localhost:80";
    INFO(type.name);
    REQUIRE_OK(CheckScorer(type.name, options));
  }
}

}  // namespace
}  // namespace rollcall
