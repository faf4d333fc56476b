// InferenceService over a real server, generator, engine and a tiny model.
#include "rollout_worker/generate_service.h"

#include <algorithm>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "rollout_worker/serving/standalone_server.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/server.h"
#include "services/common/storage/files.h"
#include "services/common/text/tokenizer.h"
#include "services/model/weights/init_model.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

constexpr int32_t kMaxPositions = 2048;
constexpr int32_t kMaxOpenSamples = 8;

std::string MakeModel(const testing::TempDir& dir) {
  InitModelOptions options{.directory = dir.File("tiny"), .seed = 3};
  options.config.vocab_size = 257;
  options.config.hidden_size = 32;
  options.config.num_layers = 1;
  options.config.num_heads = 2;
  options.config.num_kv_heads = 2;
  options.config.head_dim = 16;
  options.config.intermediate_size = 64;
  options.config.max_positions = kMaxPositions;
  options.config.eos_token_ids = {256};
  REQUIRE_OK(InitModelDirectory(options));
  REQUIRE_OK(WriteFileAtomic(options.directory + "/tokenizer.json", ByteTokenizerJson()));
  return options.directory;
}

struct Fixture {
  Fixture() {
    auto started = StandaloneServer::Start(
        {.model_directory = MakeModel(dir), .generator = {.max_open_samples = kMaxOpenSamples}},
        {.metrics = *metrics,
         .metrics_text = [] { return std::string(); },
         .logger = logger,
         .clock = clock});
    REQUIRE_OK(started.status());
    standalone = *std::move(started);
    service = std::make_unique<GenerateService>(GenerateServiceOptions{}, standalone->catalog(),
                                                standalone->generator(), clock);
    auto rpc = RpcServer::Start({}, {service.get()});
    REQUIRE_OK(rpc.status());
    server = *std::move(rpc);
    auto channel = MakeChannel(server->address());
    REQUIRE_OK(channel.status());
    stub = v1::InferenceService::NewStub(*channel);
  }
  ~Fixture() { standalone->Shutdown(absl::ZeroDuration()); }

  StatusOr<v1::GenerateResponse> Generate(const v1::GenerateRequest& request,
                                          absl::Duration timeout = absl::Seconds(60)) {
    v1::GenerateResponse response;
    const Status status = Call(*stub, &v1::InferenceService::Stub::Generate, request, &response,
                               {.timeout = timeout});
    if (!status.ok()) return status;
    return response;
  }
  int32_t NumOpen() {
    v1::GetLoadResponse load;
    REQUIRE_OK(Call(*stub, &v1::InferenceService::Stub::GetLoad, v1::GetLoadRequest(), &load));
    CHECK(load.max_open_samples() == kMaxOpenSamples);
    return load.num_open_samples();
  }
  bool WaitUntilIdle() {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (NumOpen() > 0) {
      if (absl::Now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  testing::TempDir dir;
  std::unique_ptr<MetricsRegistry> metrics = MakeNullMetrics();
  NullLogger logger;
  SystemClock clock;
  std::unique_ptr<StandaloneServer> standalone;
  std::unique_ptr<GenerateService> service;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<v1::InferenceService::Stub> stub;
};

v1::GenerateRequest Request(int32_t num_samples, int32_t max_new_tokens) {
  v1::GenerateRequest request;
  for (const int32_t token : {10, 20, 30}) request.add_prompt_token_ids(token);
  request.mutable_sampling()->set_temperature(1.0);
  request.mutable_sampling()->set_top_p(1.0);
  request.mutable_sampling()->set_max_new_tokens(max_new_tokens);
  request.set_num_samples(num_samples);
  request.set_seed(7);
  return request;
}

template <typename List>
std::vector<typename List::value_type> ToVector(const List& list) {
  return {list.begin(), list.end()};
}

TEST_CASE("GenerateService: every token comes with what a learner needs") {
  Fixture fixture;
  v1::GenerateRequest request = Request(3, 20);
  request.set_num_top_logprobs(2);
  request.set_wants_model_logprobs(true);
  REQUIRE_OK_AND_ASSIGN(const auto response, fixture.Generate(request));
  REQUIRE(response.samples_size() == 3);
  for (int i = 0; i < 3; ++i) {
    const v1::GeneratedTokens& sample = response.samples(i);
    CHECK(sample.sample_index() == i);
    CHECK(sample.finish_reason() == v1::FINISH_REASON_LENGTH);
    CHECK(sample.token_ids_size() == 20);
    REQUIRE(sample.behavior_logprobs_size() == 20);
    REQUIRE(sample.model_logprobs_size() == 20);
    CHECK(sample.policy_versions_size() == 20);
    REQUIRE(sample.top_logprobs_size() == 20);
    for (int t = 0; t < 20; ++t) {
      // At temperature 1 without truncation both laws are the same.
      CHECK(sample.behavior_logprobs(t) == Approx(sample.model_logprobs(t)).margin(1e-5));
      CHECK(sample.top_logprobs(t).logprobs(0) >= sample.top_logprobs(t).logprobs(1));
      CHECK(sample.top_logprobs(t).logprobs(0) >= sample.model_logprobs(t));
    }
  }
  // The same seed gives the same tokens, also of fewer samples.
  REQUIRE_OK_AND_ASSIGN(const auto again, fixture.Generate(Request(1, 20)));
  CHECK(ToVector(again.samples(0).token_ids()) == ToVector(response.samples(0).token_ids()));
}

TEST_CASE("GenerateService: a stream has the tokens of the whole answer") {
  Fixture fixture;
  const v1::GenerateRequest request = Request(2, 30);
  REQUIRE_OK_AND_ASSIGN(const auto whole, fixture.Generate(request));
  grpc::ClientContext context;
  const auto reader = fixture.stub->GenerateStream(&context, request);
  std::vector<std::vector<int32_t>> tokens(2);
  std::vector<v1::FinishReason> ends(2);
  int num_pieces = 0;
  for (v1::GeneratedTokens piece; reader->Read(&piece); ++num_pieces) {
    auto& sample = tokens[piece.sample_index()];
    CHECK(piece.first() == static_cast<int32_t>(sample.size()));
    CHECK(piece.behavior_logprobs_size() == piece.token_ids_size());
    sample.insert(sample.end(), piece.token_ids().begin(), piece.token_ids().end());
    if (piece.finish_reason() != 0) ends[piece.sample_index()] = piece.finish_reason();
  }
  REQUIRE(reader->Finish().ok());
  CHECK(num_pieces > 10);
  for (int i = 0; i < 2; ++i) {
    CHECK(tokens[i] == ToVector(whole.samples(i).token_ids()));
    CHECK(ends[i] == v1::FINISH_REASON_LENGTH);
  }
}

TEST_CASE("GenerateService: log-probabilities of the prompt come with the first sample") {
  Fixture fixture;
  v1::GenerateRequest request = Request(2, 4);
  REQUIRE_OK_AND_ASSIGN(const auto completion, fixture.Generate(request));
  // A completion that is sampled under the model's own law has the log-probabilities that it has
  // as a part of a prompt.
  const v1::GeneratedTokens& sampled = completion.samples(0);
  request.mutable_prompt_token_ids()->Add(sampled.token_ids().begin(), sampled.token_ids().end());
  request.set_wants_prompt_logprobs(true);
  REQUIRE_OK_AND_ASSIGN(const auto scored, fixture.Generate(request));
  REQUIRE(scored.samples(0).prompt_logprobs_size() == 2 + 4);
  for (int t = 0; t < 4; ++t) {
    CHECK(scored.samples(0).prompt_logprobs(2 + t) == sampled.behavior_logprobs(t));
  }
  CHECK(scored.samples(1).prompt_logprobs_size() == 0);
  grpc::ClientContext context;
  const auto reader = fixture.stub->GenerateStream(&context, request);
  std::vector<float> streamed;
  for (v1::GeneratedTokens piece; reader->Read(&piece);) {
    if (piece.prompt_logprobs_size() == 0) continue;
    CHECK(piece.sample_index() == 0);
    CHECK(piece.finish_reason() == v1::FINISH_REASON_LENGTH);
    streamed = ToVector(piece.prompt_logprobs());
  }
  REQUIRE(reader->Finish().ok());
  CHECK(streamed == ToVector(scored.samples(0).prompt_logprobs()));
}

TEST_CASE("GenerateService: a beam search gives its best sequences, the likeliest first") {
  Fixture fixture;
  v1::GenerateRequest request;
  for (const int32_t token : {10, 20, 30}) request.add_prompt_token_ids(token);
  request.mutable_sampling()->set_max_new_tokens(6);
  request.set_num_samples(3);
  request.set_wants_model_logprobs(true);
  request.mutable_beam_search()->set_num_beams(5);
  request.mutable_beam_search()->set_length_penalty(0);
  REQUIRE_OK_AND_ASSIGN(const auto found, fixture.Generate(request));
  REQUIRE(found.samples_size() == 3);
  for (int i = 0; i < 3; ++i) {
    const v1::GeneratedTokens& sample = found.samples(i);
    CHECK(sample.token_ids_size() == 6);
    CHECK(ToVector(sample.behavior_logprobs()) == ToVector(sample.model_logprobs()));
    double sum = 0;
    for (const float logprob : sample.behavior_logprobs()) sum += static_cast<double>(logprob);
    REQUIRE(sample.has_beam_score());
    CHECK(sample.beam_score() == Approx(sum));
    if (i > 0) CHECK(sample.beam_score() <= found.samples(i - 1).beam_score());
  }
  // Each step takes the likeliest token: more beams never find less.
  v1::GenerateRequest greedy = request;
  greedy.clear_beam_search();
  greedy.set_num_samples(1);
  greedy.mutable_sampling()->set_top_p(1);
  REQUIRE_OK_AND_ASSIGN(const auto sampled, fixture.Generate(greedy));
  CHECK_FALSE(sampled.samples(0).has_beam_score());
  request.set_num_samples(1);
  request.mutable_beam_search()->set_num_beams(1);
  REQUIRE_OK_AND_ASSIGN(const auto narrow, fixture.Generate(request));
  CHECK(ToVector(narrow.samples(0).token_ids()) == ToVector(sampled.samples(0).token_ids()));
  CHECK(narrow.samples(0).beam_score() <= found.samples(0).beam_score());

  const auto refused = [&](v1::GenerateRequest wrong, const std::string& word) {
    const Status status = fixture.Generate(wrong).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    INFO(Message(status));
    CHECK(Message(status).find(word) != std::string::npos);
  };
  v1::GenerateRequest wrong = request;
  wrong.set_num_samples(2);
  refused(wrong, "num_beams");
  wrong = request;
  wrong.mutable_beam_search()->set_num_beams(kMaxBeams + 1);
  refused(wrong, "num_beams");
  wrong = request;
  wrong.mutable_sampling()->set_temperature(0.5);
  refused(wrong, "temperature");
  wrong = request;
  wrong.mutable_sampling()->mutable_grammar()->set_regex("a");
  refused(wrong, "grammar");
  wrong = request;
  wrong.set_num_top_logprobs(1);
  refused(wrong, "logprobs");
  grpc::ClientContext context;
  const auto reader = fixture.stub->GenerateStream(&context, request);
  v1::GeneratedTokens piece;
  CHECK_FALSE(reader->Read(&piece));
  CHECK(reader->Finish().error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(fixture.NumOpen() == 0);
}

TEST_CASE("GenerateService: the law's options act") {
  Fixture fixture;
  v1::GenerateRequest request = Request(1, 40);
  for (const int32_t token : {65, 66, 67}) request.mutable_sampling()->add_allowed_token_ids(token);
  REQUIRE_OK_AND_ASSIGN(const auto allowed, fixture.Generate(request));
  for (const int32_t token : allowed.samples(0).token_ids()) CHECK((token >= 65 && token <= 67));
  request = Request(1, 40);
  v1::LogitBias& bias = *request.mutable_sampling()->add_logit_bias();
  bias.set_token_id(99);
  bias.set_bias(100);
  REQUIRE_OK_AND_ASSIGN(const auto biased, fixture.Generate(request));
  CHECK(ToVector(biased.samples(0).token_ids()) == std::vector<int32_t>(40, 99));
  request.mutable_sampling()->add_stop_token_ids(99);
  REQUIRE_OK_AND_ASSIGN(const auto stopped, fixture.Generate(request));
  CHECK(stopped.samples(0).token_ids_size() == 1);
  CHECK(stopped.samples(0).finish_reason() == v1::FINISH_REASON_STOP);
}

std::string TextOf(const v1::GeneratedTokens& sample) {
  std::string text;
  for (const int32_t token : sample.token_ids()) {
    if (token < 256) text += static_cast<char>(token);
  }
  return text;
}

TEST_CASE("GenerateService: completions are of the grammar that is asked for") {
  Fixture fixture;
  v1::GenerateRequest request = Request(4, 40);
  request.set_stops_at_end_tokens(true);
  request.mutable_sampling()->mutable_grammar()->set_regex("(ab|c){3,6};");
  std::string first;
  // Compiled the first time, found the second time.
  for (int round = 0; round < 2; ++round) {
    REQUIRE_OK_AND_ASSIGN(const auto response, fixture.Generate(request));
    std::string all;
    for (const v1::GeneratedTokens& sample : response.samples()) {
      const std::string text = TextOf(sample);
      INFO(text);
      CHECK(sample.finish_reason() == v1::FINISH_REASON_STOP);
      CHECK(sample.token_ids(sample.token_ids_size() - 1) == 256);
      CHECK(std::regex_match(text, std::regex("(ab|c){3,6};")));
      all += text;
    }
    if (round == 0) first = all;
    CHECK(all == first);
  }
  request.mutable_sampling()->mutable_grammar()->set_json_schema(R"({"enum": [17, "x"]})");
  REQUIRE_OK_AND_ASSIGN(const auto response, fixture.Generate(request));
  for (const v1::GeneratedTokens& sample : response.samples()) {
    const std::string text = TextOf(sample);
    CHECK((text == "17" || text == "\"x\""));
  }
  // Without a stop token it ends where nothing can follow.
  request.set_stops_at_end_tokens(false);
  REQUIRE_OK_AND_ASSIGN(const auto whole, fixture.Generate(request));
  for (const v1::GeneratedTokens& sample : whole.samples()) {
    CHECK(sample.finish_reason() == v1::FINISH_REASON_STOP);
    const std::string text = TextOf(sample);
    CHECK((text == "17" || text == "\"x\""));
  }
}

TEST_CASE("GenerateService: a stream is of its grammar too, and banned tokens do not come") {
  Fixture fixture;
  v1::GenerateRequest request = Request(1, 40);
  request.mutable_sampling()->mutable_grammar()->set_regex("[a-c]{30}");
  request.mutable_sampling()->add_banned_token_ids('b');
  grpc::ClientContext context;
  const auto reader = fixture.stub->GenerateStream(&context, request);
  std::string text;
  for (v1::GeneratedTokens piece; reader->Read(&piece);) text += TextOf(piece);
  REQUIRE(reader->Finish().ok());
  CHECK(std::regex_match(text, std::regex("[ac]{30}")));
  request = Request(1, 40);
  for (int32_t token = 0; token < 257; ++token) {
    if (token != 7) request.mutable_sampling()->add_banned_token_ids(token);
  }
  REQUIRE_OK_AND_ASSIGN(const auto rest, fixture.Generate(request));
  CHECK(ToVector(rest.samples(0).token_ids()) == std::vector<int32_t>(40, 7));
}

TEST_CASE("GenerateService: a grammar that cannot be met is the request's fault") {
  Fixture fixture;
  v1::GenerateRequest request = Request(1, 5);
  request.mutable_sampling()->mutable_grammar()->set_regex("(a");
  const Status wrong = fixture.Generate(request).status();
  CHECK(wrong.code() == StatusCode::kInvalidArgument);
  CHECK(Message(wrong).find("'sampling.grammar.regex': ") == 0);
  request.mutable_sampling()->mutable_grammar()->clear_regex();
  CHECK(fixture.Generate(request).status().code() == StatusCode::kInvalidArgument);
  request.mutable_sampling()->mutable_grammar()->set_regex("a");
  request.mutable_sampling()->add_banned_token_ids('a');
  CHECK(fixture.Generate(request).status().code() == StatusCode::kFailedPrecondition);
  CHECK(fixture.WaitUntilIdle());
}

TEST_CASE("GenerateService: a KV budget is kept, and is whole or refused") {
  Fixture fixture;
  v1::GenerateRequest request = Request(1, 60);
  const auto generate = [&](int32_t num_heavy, int32_t num_recent) {
    request.mutable_sampling()->mutable_kv_budget()->set_num_heavy(num_heavy);
    request.mutable_sampling()->mutable_kv_budget()->set_num_recent(num_recent);
    return fixture.Generate(request);
  };
  REQUIRE_OK_AND_ASSIGN(const auto whole, fixture.Generate(request));
  REQUIRE_OK_AND_ASSIGN(const auto covered, generate(60, 3));
  CHECK(ToVector(covered.samples(0).behavior_logprobs()) ==
        ToVector(whole.samples(0).behavior_logprobs()));
  REQUIRE_OK_AND_ASSIGN(const auto forgetful, generate(2, 2));
  CHECK(forgetful.samples(0).token_ids_size() == 60);
  CHECK(ToVector(forgetful.samples(0).behavior_logprobs()) !=
        ToVector(whole.samples(0).behavior_logprobs()));
  for (const auto& [num_heavy, num_recent] :
       std::vector<std::pair<int32_t, int32_t>>{{0, 5}, {5, 0}, {0, 0}, {-1, 5}, {5, 1 << 25}}) {
    const Status refused = generate(num_heavy, num_recent).status();
    CHECK(refused.code() == StatusCode::kInvalidArgument);
    CHECK(Message(refused).find("budget") != std::string::npos);
  }
}

TEST_CASE("GenerateService: what is wrong is named") {
  Fixture fixture;
  const auto code = [&](const v1::GenerateRequest& request) {
    return fixture.Generate(request).status().code();
  };
  v1::GenerateRequest request = Request(1, 5);
  request.set_model("other");
  CHECK(code(request) == StatusCode::kNotFound);
  request = Request(1, 5);
  request.add_prompt_token_ids(257);
  CHECK(code(request) == StatusCode::kInvalidArgument);
  CHECK(code(Request(1, 0)) == StatusCode::kInvalidArgument);
  CHECK(code(Request(1, kMaxPositions)) == StatusCode::kInvalidArgument);
  CHECK(code(Request(-1, 5)) == StatusCode::kInvalidArgument);
  CHECK(code(Request(kMaxOpenSamples + 1, 5)) == StatusCode::kInvalidArgument);
  request = Request(1, 5);
  request.mutable_sampling()->set_top_p(2);
  CHECK(code(request) == StatusCode::kInvalidArgument);
  CHECK(fixture.NumOpen() == 0);
}

TEST_CASE("GenerateService: who gives up or is late leaves the engine") {
  Fixture fixture;
  const v1::GenerateRequest endless = Request(4, kMaxPositions - 3);
  CHECK(fixture.Generate(endless, absl::Milliseconds(50)).status().code() ==
        StatusCode::kDeadlineExceeded);
  CHECK(fixture.WaitUntilIdle());
  grpc::ClientContext context;
  const auto reader = fixture.stub->GenerateStream(&context, endless);
  v1::GeneratedTokens piece;
  REQUIRE(reader->Read(&piece));
  CHECK(fixture.NumOpen() == 4);
  context.TryCancel();
  CHECK(fixture.WaitUntilIdle());
  while (reader->Read(&piece)) {
  }
  CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
}

TEST_CASE("GenerateService: too much is refused, and a shutdown ends what runs") {
  Fixture fixture;
  grpc::ClientContext context;
  const auto reader =
      fixture.stub->GenerateStream(&context, Request(kMaxOpenSamples, kMaxPositions - 3));
  v1::GeneratedTokens piece;
  REQUIRE(reader->Read(&piece));
  CHECK(fixture.Generate(Request(1, 1)).status().code() == StatusCode::kResourceExhausted);
  fixture.standalone->Shutdown(absl::ZeroDuration());
  while (reader->Read(&piece)) {
  }
  CHECK(reader->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(fixture.Generate(Request(1, 1)).status().code() == StatusCode::kUnavailable);
}

}  // namespace
}  // namespace rollcall
