// A YAML tree becomes a JobSpec with exactly the settings that the tree names.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/common/config/spec_problem.h"
#include "services/common/config/yaml_tree.h"

namespace rollcall {

struct LocatedProblem {
  SourcePlace place;
  SpecProblem problem;
};

struct SpecReading {
  v1::JobSpec spec;
  std::vector<LocatedProblem> problems;
  // Where each setting and section stands, by path.
  std::map<std::string, SourcePlace> places;
};

// Unknown keys, keys given twice and values of the wrong type become problems.
SpecReading ReadSpec(const YamlNode& root);

// Puts the value of "section.key=value" into the tree, over what is there. The value is YAML, list
// items are addressed by number ("reward.scorers.0.weight=2"). No value ("evaluate.path=") takes
// the key out of the file. kInvalidArgument: no '=', an empty key, a bad value, or a path through
// something that is no section.
Status ApplyOverride(const std::string& override_text, YamlNode* root);

}  // namespace rollcall
