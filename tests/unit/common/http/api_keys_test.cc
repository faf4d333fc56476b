#include "services/common/http/api_keys.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

TEST_CASE("ApiKeys: admits the keys of the file and nothing else") {
  const testing::TempDir dir;
  const std::string path =
      dir.Write("keys", "# team a\nkey-of-team-a-000001\r\n\nkey-of-team-b-000002\n");
  REQUIRE_OK_AND_ASSIGN(const ApiKeys keys, ApiKeys::Load(path));
  CHECK(keys.Admits("Bearer key-of-team-a-000001"));
  CHECK(keys.Admits("bearer key-of-team-b-000002"));
  CHECK_FALSE(keys.Admits("Bearer key-of-team-b-00000"));
  CHECK_FALSE(keys.Admits("Bearer key-of-team-b-0000022"));
  CHECK_FALSE(keys.Admits("Bearer # team a"));
  CHECK_FALSE(keys.Admits("Basic key-of-team-a-000001"));
  CHECK_FALSE(keys.Admits("Bearer "));
  CHECK_FALSE(keys.Admits(""));
}

TEST_CASE("ApiKeys: without keys everybody comes in") { CHECK(ApiKeys().Admits("")); }

TEST_CASE("ApiKeys: refuses files that would protect nothing") {
  const testing::TempDir dir;
  CHECK_FALSE(ApiKeys::Load(dir.File("missing")).ok());
  CHECK_FALSE(ApiKeys::Load(dir.Write("empty", "# nothing\n\n")).ok());
  const auto short_key = ApiKeys::Load(dir.Write("short", "a-good-key-of-some-length\nabc\n"));
  REQUIRE_FALSE(short_key.ok());
  CHECK(Message(short_key.status()).find("line 2") != std::string::npos);
  CHECK_FALSE(ApiKeys::Load(dir.Write("binary", "a-key-with-\x01-a-control-byte\n")).ok());
}

}  // namespace
}  // namespace rollcall
