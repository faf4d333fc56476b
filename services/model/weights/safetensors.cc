#include "services/model/weights/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <sys/stat.h>

#include "services/common/storage/files.h"

namespace rollcall {

static_assert(std::endian::native == std::endian::little, "tensors are little-endian on disk");

namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference library's own limit
constexpr size_t kMaxTensors = 200'000;            // and entries of the metadata
constexpr size_t kMaxEntries = 64;                 // of a tensor's description or of a list in it
constexpr const char* kMetadata = "__metadata__";
constexpr size_t kMaxShownBytes = 200;
constexpr int kMaxDepth = 3;  // file -> tensor -> shape

// Text of a file as messages show it: printable ASCII and short, whatever the file holds.
std::string Shown(std::string_view text) {
  std::string shown(text.substr(0, kMaxShownBytes));
  for (char& c : shown) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return text.size() > kMaxShownBytes ? shown + "..." : shown;
}

// Walks the text without keeping it and throws std::runtime_error on doubled keys, deep nesting and
// endless lists, so that the parse that follows costs memory and time in proportion to the text.
// (nlohmann's parse with a callback would look at all earlier tensors after each one.)
class HeaderGuard final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return CountValue(); }
  bool boolean(bool /*value*/) override { return CountValue(); }
  bool number_integer(number_integer_t /*value*/) override { return CountValue(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return CountValue(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return CountValue();
  }
  bool string(string_t& /*value*/) override { return CountValue(); }
  bool binary(binary_t& /*value*/) override { return CountValue(); }
  bool start_object(size_t /*size*/) override { return Open(); }
  bool start_array(size_t /*size*/) override { return Open(); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& key) override {
    if (depth_ == 1) is_metadata_ = key == kMetadata;
    if (open_[depth_ - 1].keys.insert(key).second) return true;
    throw std::runtime_error("key '" + key + "' appears twice");
  }
  bool parse_error(size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    throw std::runtime_error(error.what());
  }

 private:
  struct Level {
    std::set<std::string> keys;
    size_t num_values = 0;
  };

  bool Open() {
    CountValue();
    if (depth_ == kMaxDepth) throw std::runtime_error("header is nested too deeply");
    open_[depth_++] = {};
    return true;
  }
  bool Close() {
    --depth_;
    return true;
  }
  bool CountValue() {
    if (depth_ == 0) return true;
    const bool is_wide = depth_ == 1 || (depth_ == 2 && is_metadata_);
    const size_t limit = is_wide ? kMaxTensors : kMaxEntries;
    if (++open_[depth_ - 1].num_values <= limit) return true;
    throw std::runtime_error("more than " + std::to_string(limit) + " entries in one place");
  }

  Level open_[kMaxDepth];
  int depth_ = 0;
  bool is_metadata_ = false;
};

StatusOr<Json> ParseJson(std::string_view text, const std::string& origin) {
  try {
    HeaderGuard guard;
    Json::sax_parse(text, &guard);
    Json json = Json::parse(text);
    if (json.is_object()) return json;
    return InvalidArgument(origin + ": header is not a JSON object");
  } catch (const std::exception& error) {
    return InvalidArgument(origin + ": header is not valid: " + Shown(error.what()));
  }
}

StatusOr<uint64_t> ReadUnsigned(const Json& value, const std::string& what) {
  if (!value.is_number_unsigned()) {
    return InvalidArgument(what + " holds something that is not a non-negative integer");
  }
  return value.get<uint64_t>();
}

StatusOr<TensorLayout> ReadTensor(const std::string& name, const Json& entry,
                                  const std::string& origin) {
  const std::string what = origin + ": tensor '" + Shown(name) + "'";
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") ||
      !entry.contains("shape") || !entry.contains("data_offsets")) {
    return InvalidArgument(what + " does not have exactly dtype, shape and data_offsets");
  }
  const Json& dtype = entry["dtype"];
  const Json& shape = entry["shape"];
  const Json& offsets = entry["data_offsets"];
  if (!dtype.is_string() || !shape.is_array() || shape.size() > 8 || !offsets.is_array() ||
      offsets.size() != 2) {
    return InvalidArgument(what +
                           ": expected dtype as text, shape as up to 8 sizes and data_offsets as "
                           "[begin, end]");
  }
  TensorLayout tensor;
  tensor.name = name;
  auto parsed_dtype = ParseDType(dtype.get_ref<const std::string&>());
  if (!parsed_dtype.ok()) return Annotate(parsed_dtype.status(), what);
  tensor.dtype = *parsed_dtype;
  for (const Json& size : shape) {
    ROLLCALL_ASSIGN_OR_RETURN(const uint64_t value, ReadUnsigned(size, what + ": shape"));
    if (value > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument(what + ": a size of the shape is too large");
    }
    tensor.shape.push_back(static_cast<int64_t>(value));
  }
  auto count = NumElements(tensor.shape);
  if (!count.ok()) return Annotate(count.status(), what);
  ROLLCALL_ASSIGN_OR_RETURN(const uint64_t begin, ReadUnsigned(offsets[0], what + ": offsets"));
  ROLLCALL_ASSIGN_OR_RETURN(const uint64_t end, ReadUnsigned(offsets[1], what + ": offsets"));
  uint64_t wanted = 0;
  const bool overflow = __builtin_mul_overflow(static_cast<uint64_t>(*count),
                                               uint64_t{DTypeSize(tensor.dtype)}, &wanted);
  if (overflow || begin > end || end - begin != wanted) {
    return InvalidArgument(what + ": data_offsets [" + std::to_string(begin) + ", " +
                           std::to_string(end) + "] do not hold the " +
                           (overflow ? "impossible" : std::to_string(wanted)) +
                           " bytes of its shape and dtype");
  }
  tensor.offset_bytes = begin;
  tensor.size_bytes = wanted;
  return tensor;
}

StatusOr<std::map<std::string, std::string>> ReadMetadata(const Json& json,
                                                          const std::string& origin) {
  std::map<std::string, std::string> metadata;
  if (!json.is_object()) return InvalidArgument(origin + ": __metadata__ is not an object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      return InvalidArgument(origin + ": __metadata__ '" + Shown(key) + "' is not text");
    }
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// The tensors must tile the data area: no overlap, no hole, nothing behind the last one.
Status CheckTiling(const std::vector<TensorLayout>& tensors, uint64_t data_bytes,
                   const std::string& origin) {
  std::vector<const TensorLayout*> by_offset;
  by_offset.reserve(tensors.size());
  for (const TensorLayout& tensor : tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorLayout* a, const TensorLayout* b) {
    return std::pair(a->offset_bytes, a->size_bytes) < std::pair(b->offset_bytes, b->size_bytes);
  });
  uint64_t end = 0;
  for (const TensorLayout* tensor : by_offset) {
    if (tensor->offset_bytes != end) {
      return InvalidArgument(origin + ": tensor '" + Shown(tensor->name) + "' begins at byte " +
                             std::to_string(tensor->offset_bytes) +
                             (tensor->offset_bytes < end ? ", inside" : ", with a hole after") +
                             " the one that ends at byte " + std::to_string(end));
    }
    end += tensor->size_bytes;
  }
  if (end > data_bytes) {
    return DataLoss(origin + ": truncated: the header describes " + std::to_string(end) +
                    " bytes of tensors, the file has " + std::to_string(data_bytes));
  }
  if (end < data_bytes) {
    return InvalidArgument(origin + ": the header describes " + std::to_string(end) +
                           " bytes of tensors, the file has " + std::to_string(data_bytes));
  }
  return OkStatus();
}

Status FromErrno(int error, const std::string& path) {
  const std::string message =
      "cannot open '" + path + "': " + std::generic_category().message(error);
  if (error == ENOENT) return NotFound(message);
  if (error == EACCES || error == EPERM) {
    return MakeStatus(StatusCode::kPermissionDenied, message);
  }
  return InvalidArgument(message);
}

}  // namespace

StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> prefix,
                                                   uint64_t file_size, std::string_view origin) {
  const std::string name(origin);
  if (file_size < kLengthBytes || prefix.size() < kLengthBytes) {
    return DataLoss(name + ": truncated: " + std::to_string(file_size) +
                    " bytes are too few for a safetensors file");
  }
  uint64_t length = 0;
  std::memcpy(&length, prefix.data(), sizeof(length));
  if (length > kMaxHeaderBytes) {
    return InvalidArgument(name + ": header length " + std::to_string(length) +
                           " is above the limit of " + std::to_string(kMaxHeaderBytes) +
                           " bytes; not a safetensors file?");
  }
  if (length > file_size - kLengthBytes || length > prefix.size() - kLengthBytes) {
    return DataLoss(name + ": truncated: the header takes " + std::to_string(length) +
                    " bytes, the file has " + std::to_string(file_size - kLengthBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') {
    return InvalidArgument(name + ": header does not begin with '{'; not a safetensors file?");
  }
  ROLLCALL_ASSIGN_OR_RETURN(const Json json, ParseJson(text, name));

  SafetensorsHeader header;
  header.data_offset = kLengthBytes + length;
  for (const auto& [key, value] : json.items()) {
    if (key == kMetadata) {
      ROLLCALL_ASSIGN_OR_RETURN(header.metadata, ReadMetadata(value, name));
      continue;
    }
    ROLLCALL_ASSIGN_OR_RETURN(TensorLayout tensor, ReadTensor(key, value, name));
    header.tensors.push_back(std::move(tensor));
  }
  ROLLCALL_RETURN_IF_ERROR(CheckTiling(header.tensors, file_size - header.data_offset, name));
  return header;
}

class SafetensorsFile::Mapping {
 public:
  Mapping(void* data, size_t size) : data_(data), size_(size) {}
  ~Mapping() {
    if (size_ > 0) ::munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  void* data_;
  size_t size_;
};

StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FromErrno(errno, path);
  struct stat info{};
  void* data = nullptr;
  size_t size = 0;
  int error = ::fstat(fd, &info) != 0 ? errno : 0;
  if (error == 0 && !S_ISREG(info.st_mode)) error = EISDIR;
  if (error == 0 && info.st_size > 0) {
    size = static_cast<size_t>(info.st_size);
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) error = errno;
  }
  ::close(fd);
  if (error != 0) return FromErrno(error, path);

  SafetensorsFile file;
  file.path_ = path;
  file.mapping_ = std::make_shared<const Mapping>(data, size);
  ROLLCALL_ASSIGN_OR_RETURN(file.header_,
                            ParseSafetensorsHeader(file.mapping_->bytes(), size, path));
  return file;
}

const TensorLayout* SafetensorsFile::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      header_.tensors.begin(), header_.tensors.end(), name,
      [](const TensorLayout& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it != header_.tensors.end() && it->name == name ? &*it : nullptr;
}

std::span<const std::byte> SafetensorsFile::Data(const TensorLayout& tensor) const {
  return mapping_->bytes().subspan(header_.data_offset + tensor.offset_bytes, tensor.size_bytes);
}

void ReleasePages(std::span<const std::byte> view) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(view.data());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + view.size()) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

Status WriteSafetensors(const std::string& path, std::vector<SafetensorsView> tensors,
                        const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsView& a, const SafetensorsView& b) {
    const size_t width_a = DTypeSize(a.dtype);
    const size_t width_b = DTypeSize(b.dtype);
    return width_a != width_b ? width_a > width_b : a.name < b.name;
  });
  return GuardExceptions("writing '" + path + "'", [&]() -> Status {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    if (!metadata.empty()) json["__metadata__"] = metadata;
    uint64_t offset = 0;
    std::set<std::string_view> names;
    for (const SafetensorsView& tensor : tensors) {
      ROLLCALL_ASSIGN_OR_RETURN(const int64_t count, NumElements(tensor.shape));
      if (tensor.data.size() != static_cast<size_t>(count) * DTypeSize(tensor.dtype)) {
        return InvalidArgument("tensor '" + tensor.name + "' has " +
                               std::to_string(tensor.data.size()) +
                               " bytes, which do not fit its shape");
      }
      if (!names.insert(tensor.name).second) {
        return InvalidArgument("tensor '" + tensor.name + "' is given twice");
      }
      json[tensor.name] = {{"dtype", std::string(DTypeName(tensor.dtype))},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.data.size()}}};
      offset += tensor.data.size();
    }
    std::string header = json.dump();
    header.append((8 - header.size() % 8) % 8, ' ');
    const uint64_t length = header.size();
    std::vector<std::string_view> pieces = {
        {reinterpret_cast<const char*>(&length), sizeof(length)}, header};
    for (const SafetensorsView& tensor : tensors) {
      pieces.emplace_back(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    }
    return WritePiecesAtomic(path, pieces);
  });
}

}  // namespace rollcall
