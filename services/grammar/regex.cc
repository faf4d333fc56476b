#include "services/grammar/regex.h"

#include <utility>

namespace rollcall {

AutomatonBuilder::Piece Utf8Piece(const CodePointSet& set, AutomatonBuilder* builder) {
  const AutomatonBuilder::Piece piece = {builder->AddState(), builder->AddState()};
  for (const Utf8Sequence& sequence : Utf8Sequences(set)) {
    int32_t state = piece.begin;
    for (size_t i = 0; i < sequence.size(); ++i) {
      const int32_t next = i + 1 == sequence.size() ? piece.end : builder->AddState();
      builder->AddByteEdge(state, sequence[i].first, sequence[i].last, next);
      state = next;
    }
  }
  return piece;
}

AutomatonBuilder::Piece RegexPiece(const RegexNode& node, CharacterPiece characters,
                                   AutomatonBuilder* builder) {
  using Kind = RegexNode::Kind;
  switch (node.kind) {
    case Kind::kEmpty:
      return builder->Empty();
    case Kind::kSet:
      return characters(node.set, builder);
    case Kind::kConcatenation: {
      AutomatonBuilder::Piece whole = builder->Empty();
      for (const RegexNode& child : node.children) {
        whole = builder->Concatenate(whole, RegexPiece(child, characters, builder));
      }
      return whole;
    }
    case Kind::kAlternatives: {
      std::vector<AutomatonBuilder::Piece> pieces;
      for (const RegexNode& child : node.children) {
        pieces.push_back(RegexPiece(child, characters, builder));
      }
      return builder->Alternatives(pieces);
    }
    case Kind::kRepeat:
      return builder->Repeat([&] { return RegexPiece(node.children.front(), characters, builder); },
                             node.min, node.max);
  }
  return builder->Empty();
}

StatusOr<ByteAutomaton> CompileRegex(std::string_view pattern) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::vector<RegexAlternative> alternatives, ParseRegex(pattern));
  AutomatonBuilder builder;
  std::vector<AutomatonBuilder::Piece> pieces;
  for (const RegexAlternative& alternative : alternatives) {
    pieces.push_back(RegexPiece(alternative.node, Utf8Piece, &builder));
  }
  const int32_t root = builder.DeclareRule();
  builder.SetBody(root, builder.Alternatives(pieces));
  return builder.Finish(root);
}

}  // namespace rollcall
