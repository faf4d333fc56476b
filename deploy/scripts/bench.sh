# ./dev bench: benchmarks. Each prints a table, or with --json one JSON object.

help_bench() {
  cat <<'TEXT'
usage: ./dev bench NAME [--json]

  startup         `rollcall up` and submit, to the first optimizer step of a tiny model
  control-plane   1,000 simulated workers against one coordinator
  migration       pause of a sequence that moves between workers, by its length
  tokenizer       encoding and decoding beside the `tokenizers` library, one thread each
  rollout         the inference engine beside transformers and llama.cpp, ten minutes; --quick:
                  two. The first run builds llama.cpp from its sources, about five minutes more.
  serving         the HTTP endpoint under 500 concurrent streams, then under three times as many;
                  five minutes and one; --quick: 30 and 10 s; --seconds N; --streams N

--json prints one object: {"bench", "machine", "rows": [{"case", "figure", "unit", "value",
"spread", "peer", "peer_value", "peer_spread", "ratio"}]}; peer fields only where there is a
yardstick, ratio is ours over theirs, greater is better; spread, where a value is the median of
several rounds, is (largest - smallest) / median.
TEXT
}

# The source archive of this PyPI package holds the whole of llama.cpp.
LLAMA_SOURCE=llama-cpp-python==0.3.36

# Prints the directory of llama.cpp's programs, built for this machine. $CACHE keeps them until the
# version or our own program over llama.h changes.
setup_llama() {
  local dir=$CACHE/bench/${LLAMA_SOURCE//==/-} program=$ROOT/tests/bench/peers/llama_rollout.cpp
  local llama=$dir/src/vendor/llama.cpp log=$dir/build.log mark
  if [ ! -e "$dir/built" ]; then
    say "Building llama.cpp from $LLAMA_SOURCE, about five minutes; log in $log"
    rm -rf "$dir"
    mkdir -p "$dir/src"
    {
      "$VENV/bin/python" -m pip download --no-deps --no-binary "${LLAMA_SOURCE%%==*}" --dest "$dir" "$LLAMA_SOURCE" &&
        tar xzf "$dir"/*.tar.gz -C "$dir/src" --strip-components=1 && rm "$dir"/*.tar.gz &&
        cmake -S "$llama" -B "$dir/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
          -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
          -DLLAMA_OPENSSL=OFF &&
        ninja -C "$dir/build" llama-batched-bench llama && touch "$dir/built"
    } >"$log" 2>&1 || die "llama.cpp could not be built" "see $log"
  fi
  mark=$dir/llama_rollout-$(sha256sum <"$program" | cut -c1-16)
  if [ ! -e "$mark" ]; then
    g++ -std=c++20 -O2 -I"$llama/include" -I"$llama/ggml/include" "$program" -o "$dir/llama_rollout" \
      -L"$dir/build/bin" -lllama -lggml -lggml-base -Wl,-rpath,"$dir/build/bin" ||
      die "$program could not be built" "the compiler's message is above"
    touch "$mark"
  fi
  echo "$dir"
}

command_bench() {
  local name=${1:-}
  [ -n "$name" ] || { help_bench >&2; die "name a benchmark"; }
  shift
  case "$name" in
    startup)
      command_build release
      exec python3 "$SCRIPTS/bench_startup.py" --bin "$ROOT/build/release/bin" "$@" ;;
    control-plane)
      command_build release --target control_plane_bench
      exec "$ROOT/build/release/bin/control_plane_bench" "$@" ;;
    migration)
      command_build release --target rollout_migration_test
      exec "$ROOT/build/release/tests/rollout_migration_test" "[.bench]" ;;
    tokenizer)
      setup_test
      command_build release --target tokenizer_bench
      exec "$VENV/bin/python" "$SCRIPTS/bench_tokenizer.py" --bin "$ROOT/build/release/bin" "$@" ;;
    rollout)
      setup_test
      install_python requirements-bench
      local llama
      llama=$(setup_llama)
      command_build release --target rollout_bench --target rollcall
      exec "$VENV/bin/python" "$SCRIPTS/bench_rollout.py" --bin "$ROOT/build/release/bin" \
        --llama "$llama" --models "$CACHE/bench/models" "$@" ;;
    serving)
      command_build release --target rollcall-rollout --target rollcall
      exec python3 "$SCRIPTS/bench_serving.py" --bin "$ROOT/build/release/bin" "$@" ;;
    *) help_bench >&2; die "unknown benchmark '$name'" ;;
  esac
}
