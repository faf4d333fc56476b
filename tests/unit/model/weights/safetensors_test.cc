#include "services/model/weights/safetensors.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;

// A file with this header and this many bytes behind it.
std::string FileOf(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
  return file + header + std::string(data_bytes, 'd');
}

Status Parse(const std::string& file) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size(), "m.safetensors")
      .status();
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return '"' + name + R"(":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" +
         offsets + '}';
}

bool IsPlainText(const std::string& text) {
  for (const char c : text) {
    if (c < 0x20 || c > 0x7e) return false;
  }
  return true;
}

void CheckRefused(const std::string& file, StatusCode code, const std::string& reason) {
  const Status status = Parse(file);
  INFO(status.ToString());
  CHECK(status.code() == code);
  const std::string message = Message(status);
  CHECK(message.rfind("m.safetensors: ", 0) == 0);
  CHECK(message.find(reason) != std::string::npos);
  // It goes into logs and RPC trailers.
  CHECK(message.size() < 1000);
  CHECK(IsPlainText(message));
}

int64_t PeakMemoryKib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

const std::string kA = Entry("a", R"("F32")", "[2,3]", "[0,24]");

TEST_CASE("Safetensors: what is written reads back, wider types first", "[unit][model]") {
  const TempDir dir;
  const std::string path = dir.File("m.safetensors");
  const std::vector<float> floats = {1.5F, -2.0F, 0.0F};
  const std::vector<uint16_t> halves = {1, 2};
  REQUIRE_OK(WriteSafetensors(
      path,
      {{.name = "h", .dtype = DType::kBF16, .shape = {2}, .data = std::as_bytes(std::span(halves))},
       {.name = "z", .shape = {3, 1}, .data = std::as_bytes(std::span(floats))},
       {.name = "none", .shape = {0, 4}, .data = {}},
       {.name = "one", .shape = {}, .data = std::as_bytes(std::span(floats).first(1))}},
      {{"format", "pt"}}));
  REQUIRE_OK_AND_ASSIGN(const SafetensorsFile file, SafetensorsFile::Open(path));
  CHECK(file.header().data_offset % 8 == 0);
  CHECK(file.header().metadata == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE(file.header().tensors.size() == 4);
  REQUIRE(file.Find("z") != nullptr);
  CHECK(file.Find("z")->shape == std::vector<int64_t>{3, 1});
  CHECK(std::memcmp(file.Data(*file.Find("z")).data(), floats.data(), 12) == 0);
  CHECK(file.Find("h")->offset_bytes == 16);
  CHECK(std::memcmp(file.Data(*file.Find("h")).data(), halves.data(), 4) == 0);
  CHECK(file.Data(*file.Find("none")).empty());
  CHECK(file.Find("one")->size_bytes == 4);
  CHECK(file.Find("y") == nullptr);
}

TEST_CASE("WriteSafetensors: refuses what could not be read", "[unit][model]") {
  const TempDir dir;
  const std::vector<float> floats(4);
  const auto bytes = std::as_bytes(std::span(floats));
  const std::string path = dir.File("m.safetensors");
  const Status wrong = WriteSafetensors(path, {{.name = "a", .shape = {3}, .data = bytes}}, {});
  CHECK(wrong.code() == StatusCode::kInvalidArgument);
  CHECK(Message(wrong).find("'a'") != std::string::npos);
  const Status doubled = WriteSafetensors(
      path,
      {{.name = "a", .shape = {4}, .data = bytes}, {.name = "a", .shape = {4}, .data = bytes}}, {});
  CHECK(doubled.code() == StatusCode::kInvalidArgument);
  CHECK(!std::filesystem::exists(path));
  CHECK(!WriteSafetensors(path, {{.name = "\xff", .shape = {4}, .data = bytes}}, {}).ok());
  CHECK(!std::filesystem::exists(path));
}

TEST_CASE("Safetensors: a file that ends early is data loss", "[unit][model]") {
  const std::string whole = FileOf("{" + kA + "}", 24);
  REQUIRE_OK(Parse(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    CheckRefused(whole.substr(0, size), StatusCode::kDataLoss, "truncated");
  }
}

TEST_CASE("Safetensors: header lengths that lie", "[unit][model]") {
  for (const uint64_t length :
       {uint64_t{100'000'001}, uint64_t{1} << 62, UINT64_MAX, UINT64_MAX - 7, uint64_t{1} << 63}) {
    std::string file = FileOf("{" + kA + "}", 24);
    std::memcpy(file.data(), &length, sizeof(length));
    CheckRefused(file, StatusCode::kInvalidArgument, "header length " + std::to_string(length));
  }
  std::string file = FileOf("{" + kA + "}", 24);
  const uint64_t length = file.size() - 7;
  std::memcpy(file.data(), &length, sizeof(length));
  CheckRefused(file, StatusCode::kDataLoss, "truncated");
}

TEST_CASE("Safetensors: headers that are not JSON", "[unit][model]") {
  const auto refused = [](const std::string& header, const std::string& reason) {
    INFO(header.substr(0, 100));
    CheckRefused(FileOf(header, 24), StatusCode::kInvalidArgument, reason);
  };
  refused("", "does not begin with '{'");
  refused(" {" + kA + "}", "does not begin with '{'");
  refused("[" + kA + "]", "does not begin with '{'");
  refused(std::string(64, '\0'), "does not begin with '{'");
  refused("{" + kA, "header is not valid");
  refused("{" + kA + "}}", "header is not valid");
  refused("{" + kA + ",}", "header is not valid");
  refused("{\"\xff\xfe\":1}", "header is not valid");
  refused("{\"" + std::string(300'000, '\xc3') + "\":1}", "header is not valid");
  refused("{\"a\nb\":1}", "header is not valid");
  refused("{" + kA + "," + kA + "}", "appears twice");
  refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
          "appears twice");
  refused("{\"a\":" + std::string(1'000'000, '[') + "}", "nested");
  refused(std::string(1'000'000, '{'), "header is not valid");
}

TEST_CASE("Safetensors: entries that are not tensors", "[unit][model]") {
  const auto refused = [](const std::string& entry, const std::string& reason) {
    INFO(entry.substr(0, 200));
    CheckRefused(FileOf("{" + entry + "}", 24), StatusCode::kInvalidArgument, reason);
  };
  const std::string f32 = R"("F32")";
  refused(R"("a":1)", "'a' does not have exactly dtype, shape and data_offsets");
  refused(R"("a":{"dtype":"F32","shape":[6]})", "does not have exactly");
  refused(R"("a":{"dtype":"F32","shape":[6],"data_offsets":[0,24],"x":1})",
          "does not have exactly");
  refused(Entry("a", R"("F33")", "[6]", "[0,24]"), "'a'");
  refused(Entry("a", R"("f32")", "[6]", "[0,24]"), "'a'");
  refused(Entry("a", "32", "[6]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "6", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[-6]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[6.0]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[\"6\"]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[1,1,1,1,1,1,1,1,6]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[9223372036854775808]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[18446744073709551616]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[4611686018427387904]", "[0,0]"), "impossible");
  refused(Entry("a", f32, "[4294967296,4294967296]", "[0,24]"), "'a'");
  refused(Entry("a", f32, "[6]", "[0]"), "'a'");
  refused(Entry("a", f32, "[6]", "[0,24,48]"), "'a'");
  refused(Entry("a", f32, "[6]", "[24,0]"), "[24, 0] do not hold the 24 bytes");
  refused(Entry("a", f32, "[6]", "[0,23]"), "do not hold the 24 bytes");
  refused(Entry("a", f32, "[6]", "[-24,0]"), "'a'");
  refused(Entry("a", f32, "[6]", "[18446744073709551592,0]"), "'a'");
  refused(Entry("a", R"("F16")", "[6]", "[0,24]"), "do not hold the 12 bytes");
  refused("\"__metadata__\":1," + kA, "__metadata__ is not an object");
  refused("\"__metadata__\":{\"x\":1}," + kA, "__metadata__ 'x' is not text");
  refused(Entry(std::string(100'000, 'n'), f32, "[6]", "[0,23]"), "do not hold the 24 bytes");
  refused(Entry("a\\n\xc3"
                "\xa9",
                f32, "[6]", "[0,23]"),
          "do not hold the 24 bytes");
}

TEST_CASE("Safetensors: tensors must tile the data", "[unit][model]") {
  const auto refused = [](const std::string& header, size_t data_bytes, StatusCode code,
                          const std::string& reason) {
    CheckRefused(FileOf("{" + header + "}", data_bytes), code, reason);
  };
  const auto b = [](const std::string& offsets) {
    return kA + "," + Entry("b", R"("F32")", "[2]", offsets);
  };
  REQUIRE_OK(Parse(FileOf("{" + b("[24,32]") + "}", 32)));
  refused(b("[20,28]"), 32, StatusCode::kInvalidArgument, "tensor 'b' begins at byte 20, inside");
  refused(b("[0,8]"), 32, StatusCode::kInvalidArgument, "inside");
  refused(b("[28,36]"), 36, StatusCode::kInvalidArgument,
          "tensor 'b' begins at byte 28, with a hole");
  refused(b("[24,32]"), 31, StatusCode::kDataLoss,
          "describes 32 bytes of tensors, the file has 31");
  refused(b("[24,32]"), 33, StatusCode::kInvalidArgument,
          "describes 32 bytes of tensors, the file has 33");
  refused(Entry("a", R"("F32")", "[2]", "[8,16]"), 16, StatusCode::kInvalidArgument, "hole");
  refused(Entry("a", R"("U8")", "[9223372036854775807]", "[0,9223372036854775807]"), 4,
          StatusCode::kDataLoss, "truncated");
}

// The header is text from outside: it must not cost much more memory than it is long.
TEST_CASE("Safetensors: endless lists and objects are refused before they cost memory",
          "[unit][model]") {
  std::string zeros = "0";
  std::string lists = "[]";
  std::string keys = R"("k0":0)";
  for (int i = 1; i < 2'000'000; ++i) zeros += ",0";
  for (int i = 1; i < 1'000'000; ++i) lists += i % 2 == 0 ? ",[0]" : ",{}";
  for (int i = 1; i < 150'000; ++i) keys += ",\"k" + std::to_string(i) + "\":0";
  const std::string files[] = {
      FileOf(R"({"a":{"dtype":"F32","shape":[)" + zeros + R"(],"data_offsets":[0,4]}})", 4),
      FileOf(R"({"a":[)" + zeros + "]}", 4),
      FileOf(R"({"a":[)" + lists + "]}", 4),
      FileOf(R"({"a":{"shape":[)" + lists + "]}}", 4),
      FileOf(R"({"__metadata__":[)" + lists + "]}", 4),
      FileOf(R"({"a":{)" + keys + "}}", 4)};
  // Once for what is allocated only once.
  REQUIRE(!Parse(FileOf(R"({"a":[0,0,0,0,0,0,0,0,0,0]})", 4)).ok());
  const int64_t before = PeakMemoryKib();
  for (const std::string& file : files) {
    CheckRefused(file, StatusCode::kInvalidArgument, "header is not valid");
  }
  CHECK(PeakMemoryKib() - before < 4096);
}

// Time in proportion to the header: with a scan of the tensors before it for each one, minutes.
TEST_CASE("Safetensors: as many tensors as are allowed, and not one more", "[unit][model]") {
  const auto header = [](int num_tensors) {
    std::string text = "{";
    for (int i = 0; i < num_tensors; ++i) {
      const std::string range = "[" + std::to_string(i) + "," + std::to_string(i + 1) + "]";
      text += (i == 0 ? "" : ",") + Entry("t" + std::to_string(i), R"("U8")", "[1]", range);
    }
    return text + "}";
  };
  REQUIRE_OK(Parse(FileOf(header(200'000), 200'000)));
  CheckRefused(FileOf(header(200'001), 200'001), StatusCode::kInvalidArgument,
               "more than 200000 entries");
}

TEST_CASE("Safetensors: random damage never crashes and is named", "[unit][model]") {
  const std::string whole = FileOf("{\"__metadata__\":{\"format\":\"pt\"}," + kA + "," +
                                       Entry("model.embed", R"("BF16")", "[4,1]", "[24,32]") + "}",
                                   32);
  REQUIRE_OK(Parse(whole));
  CounterRandom random(17);
  for (int round = 0; round < 20'000; ++round) {
    std::string file = whole;
    const uint64_t num_changes = 1 + random.Below(3);
    for (uint64_t i = 0; i < num_changes; ++i) {
      const size_t at = random.Below(file.size());
      switch (random.Below(4)) {
        case 0:
          file[at] = static_cast<char>(random.Below(256));
          break;
        case 1:
          file.erase(at, 1 + random.Below(8));
          break;
        case 2:
          file.insert(at, file.substr(random.Below(file.size()), random.Below(40)));
          break;
        default:
          file[at] = "0123456789[]{}\",:-"[random.Below(18)];
      }
      if (file.empty()) break;
    }
    const auto header =
        ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size(), "m.safetensors");
    if (!header.ok()) {
      const std::string message = Message(header.status());
      INFO(message);
      if (message.rfind("m.safetensors: ", 0) != 0 || !IsPlainText(message)) FAIL(round);
      continue;
    }
    for (const TensorLayout& tensor : header->tensors) {
      INFO(round);
      REQUIRE(header->data_offset + tensor.offset_bytes + tensor.size_bytes <= file.size());
    }
  }
}

TEST_CASE("SafetensorsFile: files that cannot be opened", "[unit][model]") {
  const TempDir dir;
  const auto status = [&](const std::string& name) {
    return SafetensorsFile::Open(dir.File(name)).status();
  };
  CHECK(status("absent").code() == StatusCode::kNotFound);
  CHECK(Message(status("absent")).find(dir.File("absent")) != std::string::npos);
  std::filesystem::create_directory(dir.path() / "folder");
  CHECK(status("folder").code() == StatusCode::kInvalidArgument);
  CHECK(Message(status("folder")).find(dir.File("folder")) != std::string::npos);
  dir.Write("empty", "");
  CHECK(status("empty").code() == StatusCode::kDataLoss);
  CHECK(Message(status("empty")).find(dir.File("empty")) != std::string::npos);
}

}  // namespace
}  // namespace rollcall
