#include "services/common/text/normalization_form.h"

#include <algorithm>
#include <vector>

#include "services/common/text/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// A character of the result. `change` says what it stands for: -n, the next character and n that
// follow it; positive, nothing new.
struct Item {
  char32_t c;
  int change;
  int combining_class;
};

uint16_t StableTrait(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::kNfc:
      return kNfcStable;
    case NormalizationForm::kNfd:
      return kNfdStable;
    case NormalizationForm::kNfkc:
      return kNfkcStable;
    case NormalizationForm::kNfkd:
      return kNfkdStable;
  }
  return 0;
}

void DecomposeAll(std::string_view text, Decomposition kind, std::vector<Item>* items) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = DecodeUtf8(text, i);
    char32_t parts[kMaxDecomposition];
    size_t count = Decompose(step.code_point, kind, parts);
    if (count == 0) parts[count++] = step.code_point;
    for (size_t k = 0; k < count; ++k) {
      items->push_back({parts[k], k == 0 ? 0 : 1, CombiningClass(parts[k])});
    }
    i += step.num_bytes;
  }
  // Canonical order: runs of marks by their class, otherwise as they stand.
  for (auto it = items->begin(); it != items->end();) {
    if (it->combining_class == 0) {
      ++it;
      continue;
    }
    const auto end =
        std::find_if(it, items->end(), [](const Item& item) { return item.combining_class == 0; });
    std::stable_sort(it, end, [](const Item& a, const Item& b) {
      return a.combining_class < b.combining_class;
    });
    it = end;
  }
}

void ComposeAll(std::vector<Item>* items) {
  std::vector<Item>& list = *items;
  size_t kept = 0;
  size_t starter = 0;
  bool has_starter = false;
  int last_class = -1;  // of what stands between the starter and here, -1 for nothing
  for (size_t i = 0; i < list.size(); ++i) {
    const Item item = list[i];
    if (!has_starter) {
      has_starter = item.combining_class == 0;
      starter = kept;
      list[kept++] = item;
      last_class = -1;
      continue;
    }
    if (last_class < item.combining_class) {
      const char32_t composed = Compose(list[starter].c, item.c);
      if (composed != 0) {
        list[starter].c = composed;
        list[starter].change += item.change - 1;
        continue;
      }
    }
    if (item.combining_class == 0) {
      starter = kept;
      last_class = -1;
    } else {
      last_class = item.combining_class;
    }
    list[kept++] = item;
  }
  list.resize(kept);
}

}  // namespace

void NormalizeForm(NormalizationForm form, AlignedText* text) {
  const CharTable& table = CharTable::Get();
  const std::string_view input = text->text();
  const uint16_t stable = StableTrait(form);
  const bool composes = form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
  const Decomposition kind = form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd
                                 ? Decomposition::kCompatible
                                 : Decomposition::kCanonical;
  std::vector<Item> items;
  bool changed = false;
  size_t last_stable = 0;  // where the stable character before `i` begins
  for (size_t i = 0; i < input.size();) {
    const Utf8Step step = DecodeUtf8(input, i);
    if (table.Has(step.code_point, stable)) {
      last_stable = i;
      i += step.num_bytes;
      continue;
    }
    // From the stable character that this one may combine with to the next stable one.
    size_t end = i;
    while (end < input.size()) {
      const Utf8Step next = DecodeUtf8(input, end);
      if (table.Has(next.code_point, stable)) break;
      end += next.num_bytes;
    }
    if (!changed) text->Begin();
    changed = true;
    const size_t begin = std::max(last_stable, text->position());
    text->Copy(begin - text->position());
    items.clear();
    DecomposeAll(input.substr(begin, end - begin), kind, &items);
    if (composes) ComposeAll(&items);
    for (const Item& item : items) {
      if (item.change > 0) {
        text->Insert(item.c);
        continue;
      }
      size_t num_bytes = 0;
      for (int k = item.change; k <= 0 && text->position() + num_bytes < end; ++k) {
        num_bytes += DecodeUtf8(input, text->position() + num_bytes).num_bytes;
      }
      text->Replace(item.c, num_bytes);
    }
    text->Skip(end - text->position());
    i = end;
    last_stable = end;
  }
  if (!changed) return;
  text->Copy(input.size() - text->position());
  text->Commit();
}

}  // namespace rollcall
