#include "rollout_worker/generate_service.h"

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "rollout_worker/serving/group_request.h"
#include "services/common/rpc/status_conversion.h"
#include "services/common/rpc/unary.h"

namespace rollcall {
namespace {

void FillTokens(const SampledTokens& from, v1::GeneratedTokens* to) {
  to->mutable_token_ids()->Add(from.token_ids.begin(), from.token_ids.end());
  to->mutable_behavior_logprobs()->Add(from.behavior_logprobs.begin(),
                                       from.behavior_logprobs.end());
  to->mutable_model_logprobs()->Add(from.model_logprobs.begin(), from.model_logprobs.end());
  to->mutable_policy_versions()->Add(from.policy_versions.begin(), from.policy_versions.end());
  for (const auto& top : from.top_logprobs) {
    v1::Alternatives& alternatives = *to->add_top_logprobs();
    for (const TokenLogprob& token : top) {
      alternatives.add_token_ids(token.token);
      alternatives.add_logprobs(token.logprob);
    }
  }
}

void FillEnd(const CompletedSample& sample, v1::GeneratedTokens* to) {
  to->set_sample_index(sample.index);
  to->set_finish_reason(sample.end == CompletionEnd::kStop ? v1::FINISH_REASON_STOP
                                                           : v1::FINISH_REASON_LENGTH);
  to->set_num_cached_prompt_tokens(sample.num_cached_prompt_tokens);
  if (sample.beam_score) to->set_beam_score(*sample.beam_score);
  to->mutable_prompt_logprobs()->Add(sample.prompt.logprobs.begin(), sample.prompt.logprobs.end());
}

// The call's number once it is known; whoever comes second (the number or the caller's
// cancellation) aborts it.
class AbortOnce {
 public:
  // False when the caller gave up already.
  bool SetCall(uint64_t call) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    call_ = call;
    return !is_cancelled_;
  }
  // The call to abort; 0: it has no number yet.
  uint64_t Cancel() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    is_cancelled_ = true;
    return call_;
  }

 private:
  Mutex mu_;
  uint64_t call_ ABSL_GUARDED_BY(mu_) = 0;
  bool is_cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

// --- whole answers ------------------------------------------------------------------------------

// Finishes the reactor exactly once: with the end of the call, or when the caller gave up.
class WholeAnswer final : public GenerationListener {
 public:
  WholeAnswer(v1::GenerateResponse* response, int num_samples)
      : response_(response), num_open_(num_samples) {
    for (int i = 0; i < num_samples; ++i) response->add_samples();
  }

  void Attach(PendingUnary* reactor) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    reactor_ = reactor;
  }
  void OnTokens(int32_t, const StreamedTokens&) override {}
  void OnSample(int32_t, const CompletedSample& sample) override ABSL_LOCKS_EXCLUDED(mu_) {
    if (!sample.status.ok()) return OnFailed(sample.status);
    MutexLock lock(mu_);
    if (reactor_ == nullptr) return;
    v1::GeneratedTokens* tokens = response_->mutable_samples(sample.index);
    FillTokens(sample, tokens);
    FillEnd(sample, tokens);
    if (--num_open_ == 0) FinishLocked(OkStatus());
  }
  void OnFailed(const Status& status) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    FinishLocked(status);
  }

 private:
  void FinishLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    PendingUnary* reactor = std::exchange(reactor_, nullptr);
    if (reactor != nullptr) reactor->Finish(status);
  }

  Mutex mu_;
  // Both are gone once the reactor is finished.
  v1::GenerateResponse* const response_ ABSL_GUARDED_BY(mu_);
  PendingUnary* reactor_ ABSL_GUARDED_BY(mu_) = nullptr;
  int num_open_ ABSL_GUARDED_BY(mu_);
};

// --- streams ------------------------------------------------------------------------------------

using StreamReactor = grpc::ServerWriteReactor<v1::GeneratedTokens>;

// Outlives the reactor: the generator holds it. What waits is bounded by the tokens of the call.
class StreamAnswer final : public GenerationListener {
 public:
  explicit StreamAnswer(int num_samples) : num_open_(num_samples) {}

  void Attach(StreamReactor* reactor) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    reactor_ = reactor;
  }
  void Detach() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    reactor_ = nullptr;
    pieces_.clear();
  }
  void OnTokens(int32_t, const StreamedTokens& tokens) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (reactor_ == nullptr || is_finished_) return;
    v1::GeneratedTokens& piece = pieces_.emplace_back();
    piece.set_sample_index(tokens.index);
    piece.set_first(tokens.first);
    FillTokens(tokens, &piece);
    Pump();
  }
  void OnSample(int32_t, const CompletedSample& sample) override ABSL_LOCKS_EXCLUDED(mu_) {
    if (!sample.status.ok()) return OnFailed(sample.status);
    MutexLock lock(mu_);
    if (reactor_ == nullptr || is_finished_) return;
    v1::GeneratedTokens& piece = pieces_.emplace_back();
    piece.set_first(static_cast<int32_t>(sample.token_ids.size()));
    FillEnd(sample, &piece);
    --num_open_;
    Pump();
  }
  void OnFailed(const Status& status) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    FinishLocked(status);
  }
  void WriteDone(bool ok) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    is_writing_ = false;
    if (!ok) return FinishLocked(Cancelled("the caller left"));
    Pump();
  }

 private:
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (is_writing_ || is_finished_ || reactor_ == nullptr) return;
    if (pieces_.empty()) {
      if (num_open_ == 0) FinishLocked(OkStatus());
      return;
    }
    in_flight_ = std::move(pieces_.front());
    pieces_.pop_front();
    is_writing_ = true;
    reactor_->StartWrite(&in_flight_);
  }
  void FinishLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reactor_ == nullptr || std::exchange(is_finished_, true)) return;
    reactor_->Finish(ToGrpc(status));
  }

  Mutex mu_;
  StreamReactor* reactor_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::deque<v1::GeneratedTokens> pieces_ ABSL_GUARDED_BY(mu_);
  v1::GeneratedTokens in_flight_ ABSL_GUARDED_BY(mu_);
  int num_open_ ABSL_GUARDED_BY(mu_);
  bool is_writing_ ABSL_GUARDED_BY(mu_) = false;
  bool is_finished_ ABSL_GUARDED_BY(mu_) = false;
};

class Stream final : public StreamReactor {
 public:
  Stream(std::shared_ptr<StreamAnswer> answer, std::shared_ptr<AbortOnce> abort,
         Generator& generator)
      : answer_(std::move(answer)), abort_(std::move(abort)), generator_(generator) {
    answer_->Attach(this);
  }
  void OnWriteDone(bool ok) override { answer_->WriteDone(ok); }
  void OnCancel() override {
    if (const uint64_t call = abort_->Cancel(); call != 0) generator_.Abort(call);
    answer_->OnFailed(Cancelled("the caller left"));
  }
  void OnDone() override {
    answer_->Detach();
    delete this;
  }

 private:
  const std::shared_ptr<StreamAnswer> answer_;
  const std::shared_ptr<AbortOnce> abort_;
  Generator& generator_;
};

// --- requests -----------------------------------------------------------------------------------

int32_t NumSamples(const v1::GenerateRequest& request) {
  return request.num_samples() == 0 ? 1 : request.num_samples();
}

OutputConstraint ToConstraint(const v1::Grammar& grammar) {
  switch (grammar.kind_case()) {
    case v1::Grammar::kRegex:
      return {OutputConstraint::Kind::kRegex, grammar.regex(), "sampling.grammar.regex"};
    case v1::Grammar::kJsonSchema:
      return {OutputConstraint::Kind::kJsonSchema, grammar.json_schema(),
              "sampling.grammar.json_schema"};
    case v1::Grammar::KIND_NOT_SET:
      break;
  }
  return {};
}

BeamOptions ToBeams(const v1::BeamSearch& search) {
  BeamOptions beams{.num_beams = search.num_beams()};
  if (search.has_length_penalty()) beams.length_penalty = search.length_penalty();
  if (search.early_stopping() == v1::BeamSearch::EARLY_STOPPING_AT_ONCE) {
    beams.early_stopping = BeamOptions::EarlyStopping::kAtOnce;
  } else if (search.early_stopping() == v1::BeamSearch::EARLY_STOPPING_NEVER) {
    beams.early_stopping = BeamOptions::EarlyStopping::kNever;
  }
  return beams;
}

SamplingFields ToFields(const v1::GenerateRequest& request) {
  const v1::SamplingParams& sampling = request.sampling();
  SamplingFields fields;
  fields.temperature = sampling.temperature();
  fields.top_p = sampling.top_p();
  fields.top_k = sampling.top_k();
  fields.min_p = sampling.min_p();
  if (sampling.has_repetition_penalty()) fields.repetition_penalty = sampling.repetition_penalty();
  fields.presence_penalty = sampling.presence_penalty();
  fields.frequency_penalty = sampling.frequency_penalty();
  for (const v1::LogitBias& bias : sampling.logit_bias()) {
    fields.logit_bias.emplace_back(bias.token_id(), bias.bias());
  }
  fields.allowed_token_ids.assign(sampling.allowed_token_ids().begin(),
                                  sampling.allowed_token_ids().end());
  fields.banned_token_ids.assign(sampling.banned_token_ids().begin(),
                                 sampling.banned_token_ids().end());
  fields.constraint = ToConstraint(sampling.grammar());
  fields.kv_budget = {.num_heavy = sampling.kv_budget().num_heavy(),
                      .num_recent = sampling.kv_budget().num_recent()};
  if (request.has_beam_search()) {
    fields.beam_search = ToBeams(request.beam_search());
    // It has no part in the search, so nobody needs to say it.
    if (sampling.top_p() == 0) fields.top_p.reset();
  }
  fields.min_tokens = sampling.min_new_tokens();
  fields.max_tokens = sampling.max_new_tokens();
  fields.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());
  fields.ignore_eos = !request.stops_at_end_tokens();
  if (request.has_seed()) fields.seed = request.seed();
  fields.priority = request.priority();
  fields.user = request.tenant();
  return fields;
}

Status CheckRequest(const v1::GenerateRequest& request) {
  if (request.num_samples() < 0 || request.num_samples() > kMaxChoices) {
    return InvalidArgument("num_samples must be from 1 to " + std::to_string(kMaxChoices));
  }
  if (request.num_top_logprobs() < 0 || request.num_top_logprobs() > kMaxTopLogprobs) {
    return InvalidArgument("num_top_logprobs must be from 0 to " + std::to_string(kMaxTopLogprobs));
  }
  if (request.has_beam_search() && request.beam_search().num_beams() < NumSamples(request)) {
    return InvalidArgument("beam_search.num_beams must be at least num_samples");
  }
  if (!request.has_sampling() || request.sampling().max_new_tokens() < 1) {
    return InvalidArgument("sampling.max_new_tokens must be at least 1");
  }
  if (request.sampling().has_grammar() &&
      request.sampling().grammar().kind_case() == v1::Grammar::KIND_NOT_SET) {
    return InvalidArgument("sampling.grammar must be a regex or a json_schema");
  }
  const v1::KvBudget& budget = request.sampling().kv_budget();
  if (request.sampling().has_kv_budget() && (budget.num_heavy() < 1 || budget.num_recent() < 1)) {
    return InvalidArgument(
        "sampling.kv_budget: num_heavy and num_recent must both be at least 1; leave it out to "
        "keep every token");
  }
  return OkStatus();
}

}  // namespace

GenerateService::GenerateService(const GenerateServiceOptions& options, ModelCatalog& catalog,
                                 Generator& generator, const Clock& clock)
    : options_(options),
      catalog_(catalog),
      generator_(generator),
      clock_(clock),
      random_(options.seed) {}

StatusOr<GenerationCall> GenerateService::MakeCall(const grpc::CallbackServerContext& context,
                                                   const v1::GenerateRequest& request,
                                                   Delivery delivery) {
  ROLLCALL_RETURN_IF_ERROR(CheckRequest(request));
  GenerationCall call{.arrival = clock_.Now()};
  call.deadline = call.arrival + RemainingTime(context, options_.call_timeout);
  ROLLCALL_ASSIGN_OR_RETURN(call.model, catalog_.Find(request.model()));
  SamplingFields fields = ToFields(request);
  fields.is_stream = delivery == Delivery::kStream;
  uint64_t fallback_seed = 0;
  {
    MutexLock lock(mu_);
    fallback_seed = random_.Next();
  }
  ApiResult<GroupRequest> group = MakeGroupRequest(
      *call.model, fields, {request.prompt_token_ids().begin(), request.prompt_token_ids().end()},
      {.num_samples = NumSamples(request),
       .num_top_logprobs = request.num_top_logprobs(),
       .wants_model_logprobs = request.wants_model_logprobs(),
       .wants_prompt_logprobs = request.wants_prompt_logprobs(),
       .fallback_seed = fallback_seed});
  if (!group.ok()) return InvalidArgument(group.error().message);
  call.groups.push_back(*std::move(group));
  SetGrammar(fields, &call);
  return call;
}

grpc::ServerUnaryReactor* GenerateService::Generate(grpc::CallbackServerContext* context,
                                                    const v1::GenerateRequest* request,
                                                    v1::GenerateResponse* response) {
  StatusOr<GenerationCall> call = MakeCall(*context, *request, Delivery::kWhole);
  if (!call.ok()) {
    auto* refused = new PendingUnary();
    refused->Finish(call.status());
    return refused;
  }
  const auto answer = std::make_shared<WholeAnswer>(response, NumSamples(*request));
  const auto abort = std::make_shared<AbortOnce>();
  auto* reactor = new PendingUnary([this, answer, abort] {
    if (const uint64_t id = abort->Cancel(); id != 0) generator_.Abort(id);
    answer->OnFailed(Cancelled("the caller left"));
  });
  answer->Attach(reactor);
  call->listener = answer;
  const StatusOr<uint64_t> id = generator_.Start(*std::move(call));
  if (!id.ok()) {
    answer->OnFailed(id.status());
  } else if (!abort->SetCall(*id)) {
    generator_.Abort(*id);
  }
  return reactor;
}

grpc::ServerWriteReactor<v1::GeneratedTokens>* GenerateService::GenerateStream(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  StatusOr<GenerationCall> call = MakeCall(*context, *request, Delivery::kStream);
  const auto answer = std::make_shared<StreamAnswer>(NumSamples(*request));
  const auto abort = std::make_shared<AbortOnce>();
  auto* reactor = new Stream(answer, abort, generator_);
  if (!call.ok()) {
    answer->OnFailed(call.status());
    return reactor;
  }
  call->listener = answer;
  const StatusOr<uint64_t> id = generator_.Start(*std::move(call));
  if (!id.ok()) {
    answer->OnFailed(id.status());
  } else if (!abort->SetCall(*id)) {
    generator_.Abort(*id);
  }
  return reactor;
}

grpc::ServerUnaryReactor* GenerateService::GetLoad(grpc::CallbackServerContext* /*context*/,
                                                   const v1::GetLoadRequest* /*request*/,
                                                   v1::GetLoadResponse* response) {
  response->set_num_open_samples(static_cast<int32_t>(generator_.num_open_samples()));
  response->set_max_open_samples(generator_.max_open_samples());
  auto* reactor = new PendingUnary();
  reactor->Finish(OkStatus());
  return reactor;
}

}  // namespace rollcall
