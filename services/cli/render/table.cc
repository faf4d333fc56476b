#include "services/cli/render/table.h"

#include <algorithm>

namespace rollcall {

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    // Paint writes "ESC [" itself; anything else from outside may not.
    if (cell.find("\x1b[") == std::string::npos) cell = OneLine(cell);
  }
  rows_.push_back(std::move(cells));
}

std::vector<std::string> Table::Render(const TerminalStyle& style) const {
  constexpr int kGap = 2;
  constexpr int kLeastFlexible = 8;
  std::vector<int> widths;
  int total = kGap * (static_cast<int>(columns_.size()) - 1);
  int flexible = -1;
  for (size_t c = 0; c < columns_.size(); ++c) {
    int width = DisplayWidth(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, DisplayWidth(row[c]));
    widths.push_back(width);
    total += width;
    if (columns_[c].flexible) flexible = static_cast<int>(c);
  }
  if (flexible >= 0 && total > style.width) {
    widths[flexible] = std::max(kLeastFlexible, widths[flexible] - (total - style.width));
  }

  const auto line_of = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t c = 0; c < columns_.size(); ++c) {
      const std::string cell = Truncate(cells[c], widths[c]);
      if (c > 0) line += std::string(kGap, ' ');
      line +=
          columns_[c].align == Align::kRight ? PadLeft(cell, widths[c]) : PadRight(cell, widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return Truncate(line, style.width);
  };
  std::vector<std::string> lines;
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  lines.push_back(Paint(style, Ink::kBold, line_of(titles)));
  for (const auto& row : rows_) lines.push_back(line_of(row));
  return lines;
}

}  // namespace rollcall
