#include "reward_server/remote/remote_scorer.h"

#include <map>
#include <string>
#include <utility>

#include "reward_server/scoring/content_key.h"
#include "rollcall/v1/scorer.grpc.pb.h"
#include "services/common/rpc/client.h"
#include "services/common/storage/files.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr size_t kMaxMessageBytesShown = 512;

std::string Shortened(std::string_view text) {
  return ReplaceInvalidUtf8(TruncateUtf8(text, kMaxMessageBytesShown));
}

ScoreResult FromStatus(const Status& status) {
  const std::string message = Shortened(Message(status));
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kOutOfRange:
    case StatusCode::kFailedPrecondition:
      return ScoreResult::DataFailure("remote_refused", message);
    case StatusCode::kDeadlineExceeded:
      return ScoreResult::InfrastructureFailure("timeout", message);
    case StatusCode::kUnavailable:
      return ScoreResult::InfrastructureFailure("unreachable", message);
    case StatusCode::kResourceExhausted:
      return ScoreResult::InfrastructureFailure("remote_overloaded", message);
    default:
      return ScoreResult::InfrastructureFailure("remote_error", Shortened(status.ToString()));
  }
}

ScoreResult FromResponse(const v1::ScoreResponse& response) {
  switch (response.result_case()) {
    case v1::ScoreResponse::kValue:
      return ScoreResult::Value(response.value());
    case v1::ScoreResponse::kFailure: {
      const v1::Failure& failure = response.failure();
      const std::string message = Shortened(failure.reason() + ": " + failure.message());
      return failure.kind() == v1::Failure::KIND_INFRASTRUCTURE
                 ? ScoreResult::InfrastructureFailure("remote_failure", message)
                 : ScoreResult::DataFailure("remote_failure", message);
    }
    case v1::ScoreResponse::RESULT_NOT_SET:
      break;
  }
  return ScoreResult::DataFailure("bad_response", "the scorer answered neither value nor failure");
}

class RemoteScorer final : public Scorer {
 public:
  RemoteScorer(const ScorerOptions& options, const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::ScorerService::NewStub(channel)),
        identity_(options.Identity()),
        address_(options.GetText("address")),
        concurrency_(static_cast<int>(options.GetInteger("concurrency"))),
        pass_through_(options.pass_through()) {}

  ScoreResult Score(const ScoreInput& input, absl::Time deadline) const override {
    v1::ScoreRequest request;
    request.set_request_id(HexString(ContentKey(identity_, reads(), input)));
    request.set_prompt(input.prompt);
    request.set_completion(input.completion);
    request.mutable_prompt_token_ids()->Add(input.prompt_token_ids.begin(),
                                            input.prompt_token_ids.end());
    request.mutable_completion_token_ids()->Add(input.completion_token_ids.begin(),
                                                input.completion_token_ids.end());
    request.set_row_json(input.row_json);
    request.mutable_options()->insert(pass_through_.begin(), pass_through_.end());
    if (request.ByteSizeLong() > static_cast<size_t>(kMaxMessageBytes)) {
      return ScoreResult::DataFailure(
          "too_large", "the request has " + std::to_string(request.ByteSizeLong()) +
                           " bytes, the limit is " + std::to_string(kMaxMessageBytes));
    }
    v1::ScoreResponse response;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    const Status status = FromGrpc(stub_->Score(&context, request, &response));
    if (!status.ok()) return FromStatus(Annotate(status, address_));
    return FromResponse(response);
  }

  ScorerReads reads() const override { return {.answer = true, .row = true, .token_ids = true}; }
  std::string address() const override { return address_; }
  int concurrency() const override { return concurrency_; }

 private:
  const std::unique_ptr<v1::ScorerService::Stub> stub_;
  const std::string identity_;
  const std::string address_;
  const int concurrency_;
  const std::map<std::string, std::string> pass_through_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeRemoteScorer(const ScorerOptions& options,
                                                         const TlsOptions& tls) {
  const bool wants_tls = options.GetBool("tls");
  if (wants_tls && !tls.enabled()) {
    return InvalidArgument("remote: tls is wanted, but the reward server has no certificates");
  }
  StatusOr<std::shared_ptr<grpc::Channel>> channel =
      MakeChannel(options.GetText("address"), wants_tls ? tls : TlsOptions{});
  if (!channel.ok()) return Annotate(channel.status(), "remote");
  return std::make_unique<const RemoteScorer>(options, *channel);
}

}  // namespace rollcall
