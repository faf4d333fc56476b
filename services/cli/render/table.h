// Tables of text.
#pragma once

#include <string>
#include <vector>

#include "services/cli/render/text.h"

namespace rollcall {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
  // Gives way when the table is too wide; at most one column of a table.
  bool flexible = false;
};

// Rows with two spaces between columns, the titles first and painted bold. Cells are made safe with
// OneLine unless they carry colours of their own made by Paint. Cells that a row lacks are empty.
// Each line ends without spaces and is at most style.width wide.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void AddRow(std::vector<std::string> cells);
  std::vector<std::string> Render(const TerminalStyle& style) const;
  bool empty() const { return rows_.empty(); }

 private:
  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace rollcall
