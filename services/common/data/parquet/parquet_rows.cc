#include "services/common/data/parquet/parquet_rows.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include <arrow/array.h>
#include <arrow/io/file.h>
#include <arrow/io/memory.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// Rows that are decoded together: few enough that long rows fit the memory.
constexpr int64_t kMaxBatchRows = 1024;
constexpr int64_t kBatchBytes = 32 << 20;

Status FromArrow(const arrow::Status& status) {
  if (status.ok()) return OkStatus();
  // The rest of the message is a stack of the library's files.
  std::string message = status.message();
  message = message.substr(0, message.find('\n'));
  return status.IsOutOfMemory() ? ResourceExhausted(message) : InvalidArgument(message);
}

class Reader {
 public:
  Reader(const ParquetLimits& limits, const std::function<Status(std::string_view)>& sink)
      : limits_(limits),
        sink_(sink),
        pool_(arrow::default_memory_pool(), limits.max_buffer_bytes) {}

  Status ReadFile(const std::string& path) {
    std::error_code error;
    const uint64_t size = std::filesystem::file_size(path, error);
    if (error) return NotFound(error.message());
    auto input = arrow::io::ReadableFile::Open(path, &pool_);
    ROLLCALL_RETURN_IF_ERROR(FromArrow(input.status()));
    return Read(*std::move(input), size);
  }

  Status ReadMemory(std::string_view file) {
    return Read(arrow::io::BufferReader::FromString(std::string(file)), file.size());
  }

 private:
  bool full() const { return limits_.max_rows > 0 && num_rows_ >= limits_.max_rows; }

  std::string Place(int group) const {
    return "row " + std::to_string(num_rows_ + 1) + " (row group " + std::to_string(group) + ")";
  }

  Status Read(std::shared_ptr<arrow::io::RandomAccessFile> input, uint64_t size) {
    if (size > limits_.max_file_bytes) {
      return ResourceExhausted("the file has " + std::to_string(size) + " bytes, the limit is " +
                               std::to_string(limits_.max_file_bytes));
    }
    ROLLCALL_RETURN_IF_ERROR(Open(std::move(input)));
    for (int group = 0; group < file_->num_row_groups() && !full(); ++group) {
      ROLLCALL_RETURN_IF_ERROR(ReadRowGroup(group));
    }
    return OkStatus();
  }

  Status Open(std::shared_ptr<arrow::io::RandomAccessFile> input) {
    parquet::arrow::FileReaderBuilder builder;
    parquet::ReaderProperties properties(&pool_);
    properties.set_page_checksum_verification(true);
    ROLLCALL_RETURN_IF_ERROR(FromArrow(builder.Open(std::move(input), properties)));
    const int num_columns = builder.raw_reader()->metadata()->num_columns();
    if (num_columns > limits_.max_columns) {
      return ResourceExhausted(std::to_string(num_columns) + " columns, the limit is " +
                               std::to_string(limits_.max_columns));
    }
    parquet::ArrowReaderProperties arrow_properties(/*use_threads=*/false);
    arrow_properties.set_pre_buffer(false);
    arrow_properties.set_batch_size(BatchRows(*builder.raw_reader()->metadata()));
    auto made = builder.memory_pool(&pool_)->properties(arrow_properties)->Build();
    ROLLCALL_RETURN_IF_ERROR(FromArrow(made.status()));
    file_ = std::move(made).ValueUnsafe();
    std::shared_ptr<arrow::Schema> schema;
    ROLLCALL_RETURN_IF_ERROR(FromArrow(file_->GetSchema(&schema)));
    return CheckSchema(*schema);
  }

  // Sizes in a file's metadata are claims; they only choose how much is decoded at a time.
  static int64_t BatchRows(const parquet::FileMetaData& metadata) {
    int64_t rows = kMaxBatchRows;
    for (int group = 0; group < metadata.num_row_groups(); ++group) {
      const auto row_group = metadata.RowGroup(group);
      if (row_group->num_rows() <= 0) continue;
      const int64_t row_bytes = std::max<int64_t>(
          1, row_group->total_byte_size() / std::max<int64_t>(1, row_group->num_rows()));
      rows = std::min(rows, std::max<int64_t>(1, kBatchBytes / row_bytes));
    }
    return rows;
  }

  Status CheckSchema(const arrow::Schema& schema) {
    if (schema.num_fields() == 0) return InvalidArgument("the file has no columns");
    for (int i = 0; i < schema.num_fields(); ++i) {
      const std::string& name = schema.field(i)->name();
      if (FindInvalidUtf8(name) != name.size()) {
        return InvalidArgument("the name of column " + std::to_string(i + 1) + " is not UTF-8");
      }
      if (std::find(names_.begin(), names_.end(), name) != names_.end()) {
        return InvalidArgument("two columns are called '" + name + "'");
      }
      names_.push_back(name);
      ROLLCALL_RETURN_IF_ERROR(CheckColumnType(*schema.field(i)->type(), name, limits_.value));
    }
    return OkStatus();
  }

  Status ReadRowGroup(int group) {
    auto batches = file_->GetRecordBatchReader(std::vector<int>{group});
    if (!batches.ok()) return BadRowGroup(group, FromArrow(batches.status()));
    while (!full()) {
      std::shared_ptr<arrow::RecordBatch> batch;
      arrow::Status status = (*batches)->ReadNext(&batch);
      if (status.ok() && batch != nullptr) status = batch->Validate();
      if (!status.ok()) return BadRowGroup(group, FromArrow(status));
      if (batch == nullptr) return OkStatus();
      for (int64_t i = 0; i < batch->num_rows() && !full(); ++i) {
        ROLLCALL_RETURN_IF_ERROR(WriteRow(*batch, i, group));
      }
    }
    return OkStatus();
  }

  Status WriteRow(const arrow::RecordBatch& batch, int64_t index, int group) {
    row_.clear();
    row_ += '{';
    for (int c = 0; c < batch.num_columns(); ++c) {
      if (c > 0) row_ += ',';
      AppendJsonString(names_[c], &row_);
      row_ += ':';
      const Status status =
          AppendJsonValue(*batch.column(c), index, names_[c], limits_.value, &row_);
      if (!status.ok()) {
        return MakeStatus(status.code(), Place(group) + ", " + Message(status));
      }
    }
    row_ += '}';
    num_bytes_ += row_.size();
    if (row_.size() > limits_.value.max_row_bytes || num_bytes_ > limits_.max_text_bytes) {
      return ResourceExhausted(
          Place(group) + ": the " +
          (num_bytes_ > limits_.max_text_bytes
               ? "rows so far have more than " + std::to_string(limits_.max_text_bytes)
               : "row has more than " + std::to_string(limits_.value.max_row_bytes)) +
          " bytes");
    }
    ROLLCALL_RETURN_IF_ERROR(sink_(row_));
    ++num_rows_;
    return OkStatus();
  }

  // The library does not say which column could not be decoded: each is tried alone.
  Status BadRowGroup(int group, const Status& status) {
    const std::string place = "row group " + std::to_string(group);
    const parquet::FileMetaData& metadata = *file_->parquet_reader()->metadata();
    for (int c = 0; c < metadata.num_columns(); ++c) {
      std::shared_ptr<arrow::RecordBatch> batch;
      auto batches = file_->GetRecordBatchReader(std::vector<int>{group}, std::vector<int>{c});
      arrow::Status alone = batches.status();
      while (alone.ok()) {
        alone = (*batches)->ReadNext(&batch);
        if (batch == nullptr) break;
      }
      if (!alone.ok()) {
        return MakeStatus(status.code(), place + ", column '" +
                                             metadata.schema()->Column(c)->path()->ToDotString() +
                                             "': " + Message(FromArrow(alone)));
      }
    }
    return Annotate(status, place);
  }

  const ParquetLimits& limits_;
  const std::function<Status(std::string_view)>& sink_;
  arrow::CappedMemoryPool pool_;
  std::unique_ptr<parquet::arrow::FileReader> file_;
  std::vector<std::string> names_;
  std::string row_;
  int64_t num_rows_ = 0;
  uint64_t num_bytes_ = 0;
};

}  // namespace

Status ReadParquetRows(const std::string& path, const ParquetLimits& limits,
                       const std::function<Status(std::string_view json)>& sink) {
  return GuardExceptions("Parquet", [&] { return Reader(limits, sink).ReadFile(path); });
}

Status ReadParquetRowsFromMemory(std::string_view file, const ParquetLimits& limits,
                                 const std::function<Status(std::string_view json)>& sink) {
  return GuardExceptions("Parquet", [&] { return Reader(limits, sink).ReadMemory(file); });
}

}  // namespace rollcall
