// Which key somebody meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rollcall {

// Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other.
// Case and the difference between '-' and '_' do not count. O(a·b).
int EditDistance(std::string_view a, std::string_view b);

// The candidate that is closest to the word, empty when none is close enough to be meant.
std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates);

// The key of the job file ("optimizer.learning_rate") that other systems call by this name ("lr"),
// empty when there is none.
std::string KeyKnownElsewhereAs(std::string_view word);

}  // namespace rollcall
